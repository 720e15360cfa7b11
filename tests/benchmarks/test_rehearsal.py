"""The rehearsal at a tiny size: its own archive, every stage of the project, and the numbers that must come out."""

import io
import json
import os
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import in_process
import numpy as np
import pytest
from PIL import Image
from rehearsal_files import EXPECTED, GROUPS, write_permutations
from typer.testing import CliRunner

from benchmarks import rehearsal
from benchmarks.rehearsal import Check, Measured, RehearsalError, checks, conclude, rehearse, run
from benchmarks.stages import STAGES, isolated_environment
from benchmarks.sysu_mm01 import draw, full_listing, write_archive
from msclnet.datasets.archive import open_source
from msclnet.datasets.catalogue import data_set, verify
from msclnet.datasets.records import Choice
from msclnet.errors import UserError

LISTING = full_listing(GROUPS)
SMALL = {
    "download.differences": "warn",
    "preprocess.height": 64,
    "preprocess.width": 32,
    "augment.padding": 2,
    "model.backbone": "slim",
    "model.width": 8,
    "train.batch.identities": 4,
    "visualize.perplexity": 3.0,
}
MISTAKE: dict[str, Any] = {"permutations": None, "backbone": "slim", "precision": "fp32", "keep": None}


def run_here(database: Path, command: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> Measured:
    """A stage inside this process, which has imported everything; MLflow's tables are there already."""
    assert env["MSCLNET_PROJECT"] == str(cwd)
    if not (tables := Path(env["MSCLNET_HOME"]) / "mlruns/mlflow.db").exists():
        tables.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(database, tables)
    code, out, errors = in_process.run(("python", *command[1:]), cwd, env)
    print(out, errors)
    return Measured(code, 1.0, 1.0, 1)


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> tuple[Path, list[Check]]:
    """Folder and numbers of a rehearsal with a permutation file, while the user has a tracking server of his own."""
    folder = tmp_path_factory.mktemp("rehearsal")
    test = {cell: count for cell, count in LISTING.cells.items() if cell[0] in LISTING.identities["test"]}
    permutations = folder / "rand_perm_cam.mat"
    write_permutations(permutations, test)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
        patch.setattr(rehearsal, "run_measured", partial(run_here, empty_database))
        overrides = {**SMALL, "evaluate.permutations": "data/permutations/rand_perm_cam.mat"}
        measured, found = rehearse(
            folder / "work", LISTING, EXPECTED, overrides=overrides, workers=1, permutations=permutations
        )
    assert list(measured) == list(STAGES)
    return folder / "work", found


def test_every_number_of_a_tiny_data_set_comes_out(rehearsed: tuple[Path, list[Check]]) -> None:
    folder, found = rehearsed
    assert [check.what for check in found if not check.holds] == []
    assert {check.what for check in found} >= set(SPOILED)
    trained = json.loads((folder / "project/results/train/run.json").read_text())
    assert trained["tracking_uri"].startswith(f"sqlite:///{folder}")


def edit(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Changes the value of a JSON file in place."""

    def spoil(project: Path) -> None:
        values = json.loads((project / name).read_text())
        change(values)
        (project / name).write_text(json.dumps(values))

    return spoil


def swap(name: str, old: str, new: str) -> Callable[[Path], None]:
    """Replaces a text once."""

    def spoil(project: Path) -> None:
        text = (project / name).read_text()
        assert old in text
        (project / name).write_text(text.replace(old, new, 1))

    return spoil


def same_file_twice(project: Path) -> None:
    path = project / "data/processed/manifest.csv"
    lines = path.read_text().splitlines()
    lines[2] = ",".join([*lines[2].split(",")[:-1], lines[1].split(",")[-1]])
    path.write_text("\n".join(lines))


def not_a_number(project: Path) -> None:
    path = project / "results/embeddings/test.npz"
    features = dict(np.load(path))
    features["pooled"][3, 1] = np.nan
    np.savez(path, **features)


METRICS = "results/metrics/report.json"
NUMBERS = "evaluate: mode, shots, sampler, feature, queries, valid_queries, gallery, trials"
SPOILED: dict[str, list[Callable[[Path], object]]] = {
    "download: test identities and images by camera": [
        edit("results/download/report.json", lambda report: report["counts"][-1].update(images=99))
    ],
    "preprocess: images by split and modality": [
        swap("data/processed/manifest.csv", ",infrared,", ",visible,")
    ],
    "preprocess: different files": [same_file_twice],
    "preprocess: unreadable or converted": [
        edit("results/preprocess/report.json", lambda report: report["unreadable"].append({"path": "x"}))
    ],
    "preprocess: array of test": [
        lambda project: np.save(
            project / "data/processed/images_test.npy", np.zeros((149, 64, 32, 3), np.uint8)
        )
    ],
    "embed: finite features, pooled": [not_a_number],
    NUMBERS: [
        edit(METRICS, lambda reports: reports.pop()),
        edit(METRICS, lambda reports: reports[9].update(valid_queries=15)),
        edit(METRICS, lambda reports: reports[4].update(gallery=129)),
        edit(METRICS, lambda reports: reports[0].update(sampler="agw")),
    ],
    "visualize: figures": [lambda project: (project / "results/figures/top10.png").write_text("")],
}


@pytest.mark.parametrize(
    ("what", "spoil"), [(what, spoil) for what, several in SPOILED.items() for spoil in several]
)
def test_one_wrong_number_is_found(
    rehearsed: tuple[Path, list[Check]], tmp_path: Path, what: str, spoil: Callable[[Path], object]
) -> None:
    for folder in ("data/processed", "results"):
        shutil.copytree(rehearsed[0] / "project" / folder, tmp_path / folder)
    spoil(tmp_path)
    found = checks(tmp_path, EXPECTED, sampler="official")
    assert [check.what for check in found if not check.holds] == [what]


def test_counts_other_than_the_published_ones_are_found(rehearsed: tuple[Path, list[Check]]) -> None:
    found = checks(rehearsed[0] / "project", replace(EXPECTED, published=True), sampler="official")
    wrong = [check.what for check in found if not check.holds]
    assert wrong == ["download: compared with the published numbers, differences"]


@pytest.mark.parametrize("found", [2208, 3803])
def test_a_wrong_number_fails_the_rehearsal_and_is_in_its_report(
    found: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "REPORT", tmp_path / "report.json")
    measured = {name: Measured(0, 20.0, 30.0, 2**30) for name in ("preprocess", "evaluate")}
    good = conclude(measured, [Check("valid queries", found, 2208)], images=20_000, conditions={"workers": 2})
    shown, written = capsys.readouterr().out, json.loads((tmp_path / "report.json").read_text())
    assert good == (found == 2208)
    assert ("error: valid queries: found 3803, expected 2208" in shown) == (not good)
    assert written["numbers"][0]["holds"] == good
    rate = written["targets"][0]  # of 20,000 images in 20 s on two cores
    assert (rate["found"], rate["limit"], rate["verdict"]) == (500, 400, "met")


def test_a_stage_that_fails_ends_the_rehearsal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "write_archive", lambda target, *_, **__: shutil.copy(ARCHIVE, target))
    monkeypatch.setattr(rehearsal, "run_measured", lambda *_, **__: Measured(2, 1.0, 1.0, 1))
    with pytest.raises(RehearsalError, match="download ended with exit status 2"):
        rehearse(tmp_path / "work", LISTING, EXPECTED, overrides=SMALL, workers=1)


ARCHIVE = Path(__file__)  # in place of an archive that nothing reads


def test_mistakes_are_reported_before_anything_is_drawn(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.backbone"):
        rehearse(
            tmp_path / "work", LISTING, EXPECTED, overrides={**SMALL, "model.backbone": "huge"}, workers=1
        )
    assert not (tmp_path / "work/SYSU-MM01.zip").exists()
    with pytest.raises(UserError, match=r"--keep .*not empty"):
        run(**{**MISTAKE, "keep": tmp_path}, workers=1)
    with pytest.raises(UserError, match=r"no\.mat is missing"):
        run(**{**MISTAKE, "permutations": tmp_path / "no.mat"}, workers=1)
    assert CliRunner().invoke(rehearsal.app, ["--workers", "0"]).exit_code == 2


def test_the_stages_see_nothing_of_the_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MSCLNET_HOME", "MLFLOW_TRACKING_URI", "DVC_ROOT", "GIT_DIR", "PREFECT_API_URL"):
        monkeypatch.setenv(name, "/elsewhere")
    monkeypatch.setenv("MSCLNET_DEVICE", "cpu")
    variables = isolated_environment(tmp_path, code=tmp_path / "code")
    assert "/elsewhere" not in variables.values()
    assert variables["MSCLNET_DEVICE"] == "cpu"
    assert variables["PATH"].endswith(os.environ["PATH"])
    assert variables["PYTHONPATH"].startswith(str(tmp_path / "code"))


@pytest.mark.parametrize(("camera", "infrared"), [(2, False), (6, True)])
def test_pictures_are_of_the_data_sets_size_and_weight(camera: int, infrared: bool) -> None:
    files = [draw(identity=identity, camera=camera, number=1) for identity in range(1, 16)]
    sizes, pixels = set(), set()
    for data in files:
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, image.mode) == ("JPEG", "RGB")
            assert 100 <= image.width <= 200
            assert 250 <= image.height <= 500
            sizes.add(image.size)
            values = np.asarray(image).astype(int)
        assert 20 <= len(data) / 1024 <= 30
        assert (np.ptp(values, axis=2).mean() < 1) == infrared
        pixels.add(values.tobytes())
    assert len(sizes) > 7
    assert len(pixels) == 15
    assert draw(identity=1, camera=camera, number=1) == files[0]


def test_the_archive_is_read_as_sysu_mm01(rehearsed: tuple[Path, list[Check]]) -> None:
    archive, dataset = rehearsed[0] / "SYSU-MM01.zip", data_set("sysu-mm01")
    records = dataset.list_records(open_source(archive), Choice(validation=False))
    assert Counter((record.split, record.modality) for record in records) == EXPECTED.images
    counts = verify(open_source(archive), dataset).counts
    found = {count.camera: (count.identities, count.images) for count in counts if count.part == "test"}
    assert found == EXPECTED.test_cameras
    with zipfile.ZipFile(archive) as opened:
        names = [name for name in opened.namelist() if name.endswith(".jpg")]
        listed = opened.read("SYSU-MM01/exp/available_id.txt").decode().split(",")
    assert len(names) == sum(EXPECTED.images.values()) + 5
    assert sum(str(int(name.split("/")[2])) not in listed for name in names) == 5  # people in no list


def test_the_archive_does_not_depend_on_the_number_of_processes(
    rehearsed: tuple[Path, list[Check]], tmp_path: Path
) -> None:
    write_archive(tmp_path / "other.zip", LISTING, workers=2)
    assert (tmp_path / "other.zip").read_bytes() == (rehearsed[0] / "SYSU-MM01.zip").read_bytes()
