"""The release: the same bytes twice, what is in it, what its receiver can check, and files that are no release."""

import hashlib
import json
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from mlflow_stores import start_tracker
from model_specs import random_images
from safetensors.numpy import load_file
from safetensors.numpy import save_file as save_arrays
from scipy.stats import t
from translated import HEIGHT, SPEC, WIDTH, graph_of, save_weights

from msclnet.errors import UserError
from msclnet.export.onnx import onnx_graph
from msclnet.export.release_file import MANIFEST, opened_release, write_release
from msclnet.models.network import MSCLNet
from msclnet.retrieval.calibration import Calibration, LogisticFit, ReliabilityBin, weights_digest
from msclnet.tracking.registry import CHAMPION, add_file, log_model
from pipelines import cli, search
from pipelines.release import package
from pipelines.release.package import copy_to, interval, model_card, release, verify
from pipelines.settings import QUIET

ADDRESS = f"models:/people@{CHAMPION}"
RANKS = [0.5, 0.7, 0.6]
REPORT = {
    "feature": "bnneck",
    "mode": "all",
    "shots": 1,
    "direction": "infrared-to-visible",
    "re_ranking": False,
    "trials": 3,
    "per_trial": {"rank1": RANKS, "mAP": [0.25, 0.25, 0.25]},
}
GATE = {
    "status": "promoted",
    "reason": "it gains 3 points",
    "rules": [{"rule": "gain", "holds": True, "text": "gain 3.0, asked for 1.0"}],
    "slices": {},
}
# Predicted 0.5, observed 0.4: an error of 0.1.
FIT = LogisticFit(9.0, -5.0, 0.02, 11, 55, (ReliabilityBin(55, 0.5, 0.4),), (ReliabilityBin(20, 0.5, 0.4),))
GRAPHS = {
    f"graphs/{modality}.{ending}" for modality in ("visible", "infrared") for ending in ("onnx", "xml", "bin")
}


@dataclass
class Released:
    """A registered model in a home of its own, and its release."""

    root: Path
    path: Path
    run_id: str
    description: Callable[[], str]


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Released:
    root = tmp_path_factory.mktemp("released")
    weights, files = root / "model.safetensors", root / "files"
    files.mkdir()
    save_weights(weights)
    (files / "metrics.json").write_text(
        json.dumps({"conditions": "3 trials", "validation": {"score": 44.25}})
    )
    (files / "report.json").write_text(json.dumps([REPORT]))
    (files / "promotion.json").write_text(json.dumps(GATE))
    calibration = Calibration("synthetic", False, weights_digest(weights), {"cross-modal": FIT})
    (files / "calibration.json").write_text(json.dumps(calibration.to_json()))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("MSCLNET_HOME", raising=False)
        patch.setattr(package, "onnx_graph", graph_of)
        tags = {"git_commit": "c" * 40, "recipe": "1", "processor": "a processor", "data.train": "d" * 16}
        tracker = start_tracker(root, params={"seed": 7, "train": {"epochs": 3}}, tags=tags)
        images, infrared = random_images(2, HEIGHT, WIDTH, seed=1).numpy(), np.array([False, True])
        example = {"images": images, "infrared": infrared}
        vectors = np.zeros((2, 4), np.float32)
        number = log_model(
            tracker, weights=weights, spec=SPEC, example=example, reference_vectors=vectors, name="people"
        )
        assert number is not None
        add_file(tracker, number, files / "calibration.json", name="people")
        client = tracker.server.client
        client.set_registered_model_alias("people", CHAMPION, number)
        for name, folder in (("metrics", "evaluate"), ("report", "evaluate"), ("promotion", "promotion")):
            tracker.log_artifact(files / f"{name}.json", folder)
        tracker.finish("FINISHED")
        path = release(root, ADDRESS, out=root / "people.zip")
    return Released(
        root, path, tracker.run_id, lambda: str(client.get_model_version("people", number).description)
    )


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MSCLNET_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)


def test_twice_from_one_run_gives_the_same_bytes(
    released: Released, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened_release(released.path) as found:
        infrared_graph = onnx.load(found.folder / "graphs/infrared.onnx")

    def graph(network: MSCLNet, *, infrared: bool, **size: int) -> onnx.ModelProto:
        return infrared_graph if infrared else onnx_graph(network, infrared=False, **size)

    monkeypatch.setattr(package, "onnx_graph", graph)  # one stream is enough: an export takes seconds
    again = release(released.root, ADDRESS, out=tmp_path / "again.zip")
    assert again.read_bytes() == released.path.read_bytes()


def test_it_holds_all_that_it_names(released: Released) -> None:
    with zipfile.ZipFile(released.path) as archive:
        manifest = json.loads(archive.read(MANIFEST))
        names = set(archive.namelist()) - {MANIFEST}
        found = {name: hashlib.sha256(archive.read(name)).hexdigest() for name in names}
        parts = {name: json.loads(archive.read(name)) for name in ("sbom.json", "lineage.json")}
        card = archive.read("card.md").decode()
    assert {name: facts["sha256"] for name, facts in manifest["files"].items()} == found
    assert names >= GRAPHS | {"model/model.safetensors", "model/network.json", "model/calibration.json"}
    assert names >= {
        "golden/images.safetensors",
        "card.md",
        "gate.json",
        "metrics.json",
        "preprocessing.json",
    }
    assert (manifest["run_id"], manifest["height"], manifest["width"]) == (released.run_id, HEIGHT, WIDTH)
    assert parts["lineage.json"]["tags"]["git_commit"] == "c" * 40
    packages = {each["name"]: each["version"] for each in parts["sbom.json"]["components"]}
    assert {name: packages[name] for name in ("torch", "onnx")} == {n: version(n) for n in ("torch", "onnx")}
    assert {"numpy", "safetensors", "msclnet"} <= set(packages)
    assert "timestamp" not in parts["sbom.json"]["metadata"]
    low, high = t.interval(0.95, 2, loc=60, scale=np.std([50, 70, 60], ddof=1) / np.sqrt(3))
    for fact in (
        f"60.0 ({low:.1f} to {high:.1f})",
        "25.0 (25.0 to 25.0)",
        "3 trials",
        "seed 7",
        "44.2",
        "error 0.100 over all pairs, 11 people",
        "it gains 3 points",
        "gain 3.0, asked for 1.0",
        "a processor",
        released.run_id,
        "rendered",
    ):
        assert fact in card, fact
    assert card.startswith(released.description()[:4000])
    assert interval([0.5]) == "50.0"


def test_each_back_end_computes_the_golden_vectors(
    released: Released, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("unpickled")

    for module in (pickle, torch):
        monkeypatch.setattr(module, "load", refuse)
    verified = verify(released.path)
    assert [each.backend for each in verified] == ["torch", "folded", "onnxruntime", "openvino"]
    assert all(each.right and each.agreement.images == 8 for each in verified)
    with zipfile.ZipFile(released.path) as archive:
        archive.extractall(tmp_path)
    golden = load_file(tmp_path / "golden/images.safetensors")
    session = onnxruntime.InferenceSession(tmp_path / "graphs/infrared.onnx")
    chosen = golden["infrared"].astype(bool)
    _, bnneck = session.run(None, {"images": golden["images"][chosen]})
    np.testing.assert_allclose(np.asarray(bnneck), golden["bnneck"][chosen], atol=1e-4)
    assert golden["images"].std(axis=(1, 2, 3)).min() > 5  # people, not flat pictures


def test_a_search_opens_it(released: Released, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSCLNET_HOME", str(released.root))
    monkeypatch.setenv("MSCLNET_DEVICE", "cpu")
    images, infrared = random_images(3, HEIGHT, WIDTH, seed=2).numpy(), np.array([True, False, True])
    one, other = (search.open_model(address) for address in (str(released.path), ADDRESS))
    assert (one.height, one.width) == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(one.embed(images, infrared), other.embed(images, infrared))
    assert one.identity["run_id"] == released.run_id
    assert one.calibration is not None
    assert Calibration.from_json(one.calibration).fits["cross-modal"] == FIT
    with pytest.raises(UserError, match=r"--size 32x16.*64x32"):
        search.open_model(str(released.path), size=(32, 16))


def test_other_vectors_are_refused_by_every_back_end(released: Released, tmp_path: Path) -> None:
    with opened_release(released.path) as found:
        golden = load_file(found.folder / "golden/images.safetensors")
        golden["bnneck"][3] *= 1.01
        save_arrays(golden, found.folder / "golden/images.safetensors")
        (found.folder / MANIFEST).unlink(missing_ok=True)
        facts = {name: value for name, value in found.manifest.items() if name != "files"}
        write_release(found.folder, tmp_path / "other.zip", facts)
    with pytest.raises(UserError, match="torch, folded, onnxruntime, openvino"):
        verify(tmp_path / "other.zip")


def damaged(path: Path) -> None:
    """One other byte among the weights, and the checksum of the archive corrected."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    weights = bytearray(files["model/model.safetensors"])
    weights[-1] ^= 1
    rewrite(path, files | {"model/model.safetensors": bytes(weights)})


def rewrite(path: Path, files: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def with_file(name: str) -> Callable[[Path], None]:
    def add(path: Path) -> None:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name, "more")

    return add


def compressed(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    rewrite(path, files, zipfile.ZIP_DEFLATED)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def of_a_later_format(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    rewrite(path, files | {MANIFEST: files[MANIFEST].replace(b'"format_version": 1', b'"format_version": 2')})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (damaged, "model/model.safetensors.*sha256"),
        (with_file("more.json"), "manifest"),
        (with_file("../outside.json"), re.escape("../outside.json")),
        (with_file("/tmp/outside.json"), "outside"),
        (compressed, "compressed"),
        (cut, "no release"),
        (of_a_later_format, "version 2"),
        (Path.unlink, "no such file"),
    ],
)
def test_what_is_no_whole_release_is_refused(
    released: Released, tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    path = tmp_path / "in" / "spoilt.zip"
    path.parent.mkdir()
    shutil.copy(released.path, path)
    spoil(path)
    with pytest.raises(UserError, match=words):
        verify(path)
    assert not (tmp_path / "outside.json").exists()


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        ("sysu-mm01", ("SYSU-MM01", "release agreement", "may not be passed on", "decided by the agreement")),
        ("folder", ("belong to the person who trained on them",)),
    ],
)
def test_the_card_names_the_terms_of_the_data(dataset: str, words: tuple[str, ...]) -> None:
    run: Any = SimpleNamespace(
        tags={"git_dirty": "true", "git_commit": "abc"}, params={}, dataset=dataset, counts={}, minutes=2.0
    )
    model: Any = SimpleNamespace(name="people", version="1", run_id="r", height=288, width=144)
    card = " ".join(model_card(model, run, {}, {}, 2048).split())
    for word in (*words, "The run was not evaluated", "similarity is no probability", "uncommitted changes"):
        assert word in card
    assert "rendered by this project" not in card


def test_publishing_copies_the_file(released: Released, tmp_path: Path) -> None:
    copy_to(released.path, f"{tmp_path}/models/")
    assert (tmp_path / "models/people.zip").read_bytes() == released.path.read_bytes()
    import fsspec

    copy_to(released.path, "memory://models/chosen.zip")
    with fsspec.open("memory://models/chosen.zip", "rb") as file:
        assert file.read() == released.path.read_bytes()  # pyright: ignore
    with pytest.raises(UserError, match="--publish nowhere://"):
        copy_to(released.path, "nowhere://models/")


def test_the_commands(released: Released, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["release", "verify", str(released.path)])
    assert ended.value.code == 0
    assert "onnxruntime" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        cli.main(["release", "verify", "absent.zip"])
    assert ended.value.code == 2
    assert "absent.zip" in capsys.readouterr().err
