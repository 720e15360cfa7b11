"""The rehearsal at a tiny size: its own archive, every stage of the project, and the numbers that must come out."""

import json
import os
from pathlib import Path

import pytest
from rehearsal_files import EXPECTED, GROUPS, write_permutations

from benchmarks.rehearsal import RehearsalError, rehearse, run
from benchmarks.stages import STAGES, isolated_environment
from benchmarks.sysu_mm01 import full_listing
from msclnet.errors import UserError

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


@pytest.mark.pipeline
def test_every_number_of_a_tiny_data_set_comes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What a user may have set must not reach the stages.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    listing = full_listing(GROUPS)
    test = {cell: count for cell, count in listing.cells.items() if cell[0] in listing.identities["test"]}
    write_permutations(tmp_path / "rand_perm_cam.mat", test)
    permutations = tmp_path / "rand_perm_cam.mat"
    overrides = {**SMALL, "evaluate.permutations": "data/permutations/rand_perm_cam.mat"}
    measured, checks = rehearse(
        tmp_path / "work", listing, EXPECTED, overrides=overrides, workers=1, permutations=permutations
    )
    assert list(measured) == list(STAGES)
    assert all(taken.status == 0 and taken.peak_bytes > 10 * 2**20 for taken in measured.values())
    assert len(checks) == 14
    assert [check for check in checks if not check.holds] == []
    run = json.loads((tmp_path / "work/project/results/train/run.json").read_text())
    assert run["tracking_uri"].startswith(f"sqlite:///{tmp_path}")


def test_a_stage_that_fails_ends_the_rehearsal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    overrides = {**SMALL, "download.differences": "error"}
    with pytest.raises(RehearsalError, match="download ended with exit status 2"):
        rehearse(tmp_path / "work", full_listing(GROUPS), EXPECTED, overrides=overrides, workers=1)
    assert "differences from what was published" in capfd.readouterr().err
    assert not (tmp_path / "work/project/data/raw/images.zip").exists()


def test_a_wrong_override_is_reported_before_anything_is_drawn(tmp_path: Path) -> None:
    overrides = {**SMALL, "model.backbone": "huge"}
    with pytest.raises(UserError, match=r"model\.backbone"):
        rehearse(tmp_path / "work", full_listing(GROUPS), EXPECTED, overrides=overrides, workers=1)
    assert not (tmp_path / "work/SYSU-MM01.zip").exists()


def test_the_stages_see_nothing_of_the_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MSCLNET_HOME", "MLFLOW_TRACKING_URI", "DVC_ROOT", "GIT_DIR", "PREFECT_API_URL"):
        monkeypatch.setenv(name, "/elsewhere")
    monkeypatch.setenv("MSCLNET_DEVICE", "cpu")
    variables = isolated_environment(tmp_path, code=tmp_path / "code")
    assert "/elsewhere" not in variables.values()
    assert variables["MSCLNET_DEVICE"] == "cpu"
    assert variables["PATH"].endswith(os.environ["PATH"])
    assert variables["PYTHONPATH"].startswith(str(tmp_path / "code"))


def test_mistakes_on_the_command_line_are_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("of value")
    with pytest.raises(UserError, match="not empty"):
        run(permutations=None, backbone="slim", precision="fp32", keep=tmp_path, workers=1)
    with pytest.raises(UserError, match="--workers 0"):
        run(permutations=None, backbone="slim", precision="fp32", keep=None, workers=0)
    with pytest.raises(UserError, match="is missing"):
        run(permutations=tmp_path / "no.mat", backbone="slim", precision="fp32", keep=None, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
