"""Search in one's own folder, from the command line to the files it leaves."""

import json
import os
import resource
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bombs import BOMBS, png
from PIL import Image
from safetensors.torch import save_file

from msclnet.embedding import load_embedder, load_network
from msclnet.models.build import build_network
from msclnet.models.network import MSCLNet
from pipelines import cli
from pipelines.settings import QUIET
from pipelines.stages.presets import preset_params

ROOT = Path(__file__).resolve().parents[2]
PARAMS = preset_params("smoke", ROOT)
SPEC = {"identities": 4, "model": PARAMS.section("model"), "synergy": PARAMS.section("synergy")}
HEIGHT, WIDTH = 64, 32
GALLERY = ["b.JPG", "a.png", "one/c.jpeg", "one/two/d.bmp", "one/e.Png", "f.webp", "g.tif"]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project's results, a gallery of colour photos and two infrared queries."""
    folder = tmp_path_factory.mktemp("template")
    (folder / "results/train").mkdir(parents=True)
    (folder / "results/preprocess").mkdir()
    torch.manual_seed(0)
    network = build_network(SPEC, pretrained=False)
    generator = np.random.default_rng(0)
    for _ in range(3):  # batch norm's statistics
        images = torch.from_numpy(generator.integers(0, 256, (8, HEIGHT, WIDTH, 3), dtype=np.uint8))
        network(images[:4], images[4:])
    state = {name: tensor.clone().contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, folder / "results/train/model.safetensors")
    (folder / "results/train/network.json").write_text(json.dumps(SPEC))
    (folder / "results/preprocess/report.json").write_text(json.dumps({"height": HEIGHT, "width": WIDTH}))
    for name in GALLERY:
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        photo(generator, colour=True).save(path, lossless=True)
    for name in ("night.png", "late.png"):
        photo(generator, colour=False).save(folder / name)
    return folder


def photo(generator: np.random.Generator, *, colour: bool) -> Image.Image:
    coarse = generator.integers(0, 256, (9, 5, 3 if colour else 1), dtype=np.uint8)
    small = Image.fromarray(np.repeat(coarse, 1 if colour else 3, axis=2))
    return small.resize((61, 130), Image.Resampling.BICUBIC)


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(template, folder)
    monkeypatch.chdir(folder)
    for name in ("MSCLNET_HOME", "DVC_ROOT", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MSCLNET_DEVICE", "cpu")
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    return folder


def main(arguments: Sequence[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["search", *arguments])
    if ended.value.code:
        raise ended.value


def search(*arguments: str) -> dict[str, Any]:
    main(arguments)
    out = Path(arguments[arguments.index("--out") + 1]) if "--out" in arguments else Path("results/search")
    return json.loads((out / "ranking.json").read_text())


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    return capsys.readouterr().err


def feature(network: MSCLNet, path: Path, *, infrared: bool) -> np.ndarray:
    """One file, one image, straight through the network."""
    image = Image.open(path).convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    with torch.no_grad():
        _, bnneck = network.embed(torch.from_numpy(np.array(image)[None]), infrared=infrared)
    vector = bnneck[0].double().numpy()
    return vector / np.linalg.norm(vector)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("query", ["infrared", "visible"])
@pytest.mark.parametrize("gallery", ["infrared", "visible"])
def test_the_order_is_that_of_the_cosines_file_by_file(project: Path, query: str, gallery: str) -> None:
    stated = ["--query-modality", query, "--modality", gallery]
    if (query, gallery) == ("infrared", "visible"):
        stated = []  # the defaults
    report = search("photos", "night.png", "late.png", *stated)
    network = load_network(Path("results/train/model.safetensors"), SPEC)
    files = [Path("photos") / name for name in GALLERY]
    vectors = {str(path): feature(network, path, infrared=gallery == "infrared") for path in files}
    for name, found in zip(("night.png", "late.png"), report["queries"], strict=True):
        assert found["path"] == name
        wanted = feature(network, Path(name), infrared=query == "infrared")
        expected = sorted(((float(wanted @ v), path) for path, v in vectors.items()), reverse=True)
        assert [each["rank"] for each in found["ranking"]] == list(range(1, len(GALLERY) + 1))
        assert [each["path"] for each in found["ranking"]] == [path for _, path in expected]
        similarities = [each["similarity"] for each in found["ranking"]]
        np.testing.assert_allclose(similarities, [value for value, _ in expected], atol=2e-6)


def test_what_is_left_behind_and_said(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = search("photos/", "night.png", "late.png", "--top", "3")
    assert sorted(os.listdir("results/search")) == ["ranking.json", "ranking_1.png", "ranking_2.png"]
    assert set(report["model"]) == {"folder", "weights_sha256"}
    assert report["settings"] == {
        "gallery": "photos",
        "query_modality": "infrared",
        "gallery_modality": "visible",
        "height": HEIGHT,
        "width": WIDTH,
        "feature": "bnneck",
        "distance": "cosine",
        "flip": False,
        "re_ranking": False,
        "top": 3,
    }
    assert (report["gallery_images"], report["unreadable"], report["warnings"]) == (7, [], [])
    assert [query["picture"] for query in report["queries"]] == ["ranking_1.png", "ranking_2.png"]
    sizes = [Image.open(f"results/search/ranking_{number}.png").size for number in (1, 2)]
    assert sizes[0] == sizes[1]
    assert sizes[0][0] > 700
    output = capsys.readouterr().out
    first = report["queries"][0]["ranking"][0]
    assert f"   1  {first['similarity']:6.3f}  {first['path']}" in output
    assert "results/search/ranking.json" in output


def test_a_new_search_replaces_the_former_and_nothing_else(project: Path) -> None:
    search("photos", "night.png", "late.png")
    (project / "results/search/notes.txt").write_text("mine")
    first = snapshot(project / "results/search")
    search("photos", "late.png")
    second = snapshot(project / "results/search")
    names = [Path(path).name for path in second]
    assert names == ["notes.txt", "ranking.json", "ranking_1.png"]
    assert (
        second[str(project / "results/search/ranking_1.png")]
        == (first[str(project / "results/search/ranking_2.png")])
    )


def test_results_within_the_gallery_are_not_searched(project: Path) -> None:
    arguments = ["photos", "night.png", "--out", "photos/found"]
    first = search(*arguments)
    assert search(*arguments) == first
    assert first["gallery_images"] == len(GALLERY)


def test_bad_gallery_images_are_listed_and_left_out(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = search("photos", "night.png")
    (project / "photos/empty.jpg").touch()
    (project / "photos/one/torn.png").write_bytes((project / "photos/a.png").read_bytes()[:300])
    capsys.readouterr()
    report = search("photos", "night.png")
    assert report["queries"] == whole["queries"]
    assert [each["path"] for each in report["unreadable"]] == ["photos/empty.jpg", "photos/one/torn.png"]
    assert report["unreadable"][0]["reason"] == "empty file"
    assert "left out: photos/one/torn.png: damaged" in capsys.readouterr().err


def test_images_made_to_do_harm_are_listed_and_left_out(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = search("photos", "night.png")
    harm = {f"{name}.png": content for name, content in BOMBS.items()}
    for name, content in harm.items():
        (project / "photos" / name).write_bytes(content)
    os.mkfifo(project / "photos/pipe.jpg")
    (project / "photos/\x1b[31mred\nnew line.jpg").write_bytes(b"no image")
    capsys.readouterr()
    report = search("photos", "night.png")
    assert report["queries"] == whole["queries"]
    reasons = {Path(each["path"]).name: each["reason"] for each in report["unreadable"]}
    assert set(reasons) == {*harm, "pipe.jpg", "\x1b[31mred\nnew line.jpg"}
    assert all("pixels" in reasons[name] for name in harm)
    assert reasons["pipe.jpg"] == "no plain file"
    errors = capsys.readouterr().err
    assert "left out: photos/png.png: too many pixels: at most 40000000 are decoded" in errors
    assert "3600000000 pixels" in errors
    assert r"left out: photos/\x1b[31mred\nnew line.jpg: no image file" in errors
    assert "\x1b" not in errors
    (project / "bomb.png").write_bytes(png(60_000, 60_000))
    message = refused(capsys, "photos", "night.png", "bomb.png")
    assert "bomb.png: too many pixels: at most 40000000 are decoded" in message
    assert "3600000000 pixels" in message


def test_an_image_that_looks_like_the_other_modality_is_warned_of(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy("late.png", "photos/z.png")
    report = search("photos", "photos/a.png", "night.png")
    errors = capsys.readouterr().err
    for warning, words in zip(
        report["warnings"],
        (
            ["--query-modality infrared", "1 of 2", "look visible", "photos/a.png"],
            ["--modality visible", "1 of 8", "look infrared", "photos/z.png"],
        ),
        strict=True,
    ):
        assert all(word in warning for word in words), warning
        assert f"warning: {warning}" in errors


def test_names_of_any_kind(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in (b"a$b$.png", "照片.png".encode(), b"\xff\xfe.png", b"new\nline.png"):
        shutil.copy("photos/a.png", Path("photos") / os.fsdecode(name))
    report = search("photos", "night.png")
    found = {os.fsencode(each["path"]) for each in report["queries"][0]["ranking"]}
    assert {b"photos/a$b$.png", b"photos/\xff\xfe.png", b"photos/new\nline.png"} <= found
    assert capsys.readouterr().out.count("\n") == 1 + 5 + 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["photos", "none.png"], ["none.png: no such file"]),
        (["photos", "photos"], ["photos: is a folder"]),
        (["fotos", "night.png"], ["fotos: no such gallery or folder", "msclnet gallery list"]),
        (["late.png", "night.png"], ["late.png: no such gallery or folder"]),
        (["results/train", "night.png"], ["holds no image", ".jpg"]),
        (["photos", "night.png", "torn.png"], ["torn.png: no image file"]),
        (["torn", "night.png"], ["none of the 1 images is readable", "empty file"]),
        (["photos", "night.png", "--out", "late.png"], ["late.png is a file"]),
        (["photos", "night.png", "--out", "late.png/x"], ["late.png is a file"]),
        (["photos", "night.png", "--out", "./photos"], ["the gallery itself"]),
        (
            ["photos", "night.png", "--model", "elsewhere"],
            ["elsewhere/network.json: no such file", "dvc repro train"],
        ),
        (
            ["photos", "night.png", "--model", "models:/msclnet@champion"],
            ["models:/msclnet@champion", "no registry yet", "dvc repro"],
        ),
        (["photos", "night.png", "--size", "60x30"], ["--size 60x30", "64x32"]),
        (["photos", "night.png", "--size", "60"], ["--size", "288x144"]),
        (["photos", "night.png", "--top", "0"], ["--top", "1", "100"]),
        (["photos", "night.png", "--query-modality", "ir"], ["visible", "infrared"]),
        (["photos"], ["QUERY"]),
    ],
)
def test_mistakes_are_named_and_former_results_stay(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    (project / "torn.png").write_text("no image")
    (project / "torn").mkdir()
    (project / "torn/x.png").touch()
    (project / "results/search").mkdir()
    (project / "results/search/ranking.json").write_text("former")
    before = snapshot(project)
    message = refused(capsys, *arguments)
    assert all(word in message for word in words), message
    assert snapshot(project) == before


@pytest.mark.parametrize(
    ("path", "content", "words"),
    [
        ("results/train/model.safetensors", None, ["model.safetensors: no such file", "dvc repro train"]),
        ("results/train/network.json", None, ["network.json: no such file", "dvc repro train"]),
        ("results/train/model.safetensors", "torn", ["model.safetensors is damaged"]),
        ("results/train/network.json", "{", ["network.json is damaged", "dvc repro train --force"]),
        ("results/train/network.json", "[]", ["network.json does not describe a network"]),
        (
            "results/preprocess/report.json",
            None,
            ["report.json is missing", "dvc repro preprocess", "--size"],
        ),
        ("results/preprocess/report.json", "{}", ["report.json does not hold height and width"]),
        ("results/preprocess/report.json", "]", ["report.json is damaged", "dvc repro preprocess --force"]),
    ],
)
def test_missing_and_damaged_parts_of_the_model(
    project: Path, capsys: pytest.CaptureFixture[str], path: str, content: str | None, words: list[str]
) -> None:
    if content is None:
        (project / path).unlink()
    else:
        (project / path).write_text(content)
    message = refused(capsys, "photos", "night.png")
    assert message.startswith("error: ")
    assert all(word in message for word in words), message
    assert not (project / "results/search").exists()


def test_a_model_in_another_folder(project: Path) -> None:
    own = search("photos", "night.png")
    shutil.copytree("results/train", "kept")
    by_size = search("photos", "night.png", "--model", "kept", "--size", f"{HEIGHT}x{WIDTH}")
    shutil.copy("results/preprocess/report.json", "kept/report.json")
    by_report = search("photos", "night.png", "--model", "kept")
    assert by_size == by_report
    assert by_size["queries"] == own["queries"]
    assert by_size["model"] == {**own["model"], "folder": "kept"}


def test_the_registered_champion_ranks_as_its_files_do(
    project: Path, capsys: pytest.CaptureFixture[str], empty_database: Path
) -> None:
    from mlflow_stores import start_tracker

    from msclnet.tracking.champion import set_champion
    from msclnet.tracking.registry import log_model

    own = search("photos", "night.png")
    (project / "mlruns").mkdir()
    shutil.copy(empty_database, project / "mlruns/mlflow.db")
    weights = project / "results/train/model.safetensors"
    images = np.zeros((2, HEIGHT, WIDTH, 3), np.uint8)
    infrared = np.array([False, True])
    tracker = start_tracker(project)
    with tracker.lifetime():
        version = log_model(
            tracker,
            weights=weights,
            spec=SPEC,
            example={"images": images, "infrared": infrared},
            reference_vectors=load_embedder(weights, SPEC)(images, infrared),
        )
        assert version is not None
        set_champion(tracker.server, version)
    shutil.move("results/train", "train")
    arguments = ["photos", "night.png", "--model"]
    report = search(*arguments, "models:/msclnet@champion")
    assert search("photos", "night.png") == report
    assert report["model"] == {
        "address": "models:/msclnet@champion",
        "name": "msclnet",
        "version": "1",
        "run_id": tracker.run_id,
    }
    assert report["settings"] == own["settings"]
    for ours, theirs in zip(report["queries"][0]["ranking"], own["queries"][0]["ranking"], strict=True):
        assert ours["path"] == theirs["path"]
        assert ours["similarity"] == pytest.approx(theirs["similarity"], abs=1e-5)
    former = snapshot(project / "results/search")
    message = refused(capsys, *arguments, "models:/msclnet@winner")
    assert "msclnet has no alias 'winner'" in message
    assert "champion" in message
    shutil.move("train", "results/train")
    for path in (project / "mlruns").rglob("*.safetensors"):
        path.unlink()
    message = refused(capsys, "photos", "night.png")
    assert "model.safetensors: no such file" in message  # and no other model takes its place
    assert snapshot(project / "results/search") == former


def test_a_full_disk_leaves_the_former_results(project: Path) -> None:
    search("photos", "night.png")
    former = snapshot(project / "results/search")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))  # the picture is larger
    try:
        with pytest.raises(OSError, match="File too large"):
            main(["photos", "night.png"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert snapshot(project / "results/search") == former
