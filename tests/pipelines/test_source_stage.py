"""The stage `source` runs before all others: what it finds missing from outside stops nobody after days of training."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from replicas import write_sysu_mm01
from scipy.io import savemat

from msclnet.datasets.acquire.files import exclusive
from msclnet.errors import UserError
from pipelines.stages.config import Params, check_params, read_yaml
from pipelines.stages.presets import load_preset
from pipelines.stages.source import source

ROOT = Path(__file__).resolve().parents[2]
LEFT = Path("data/raw/.images.zip.partial")
FOUND = Path("data/source/images.json")
GALLERIES = Path("data/permutations/images.json")


def write_permutations(path: Path, *, seed: int) -> None:
    """Ten trials of four images for two identities and one camera."""
    rng = np.random.default_rng(seed)
    identities = np.empty((2, 1), dtype=object)
    cameras = np.empty((1, 1), dtype=object)
    for i in range(2):
        identities[i, 0] = np.array([rng.permutation(4) + 1 for _ in range(10)])
    cameras[0, 0] = identities
    savemat(path, {"rand_perm_cam": cameras})


def preset(name: str, **evaluate: Any) -> Params:
    values = load_preset(name, ROOT)
    values["evaluate"] |= evaluate
    return check_params(values, source=name)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project beside a small copy of SYSU-MM01, which MSCLNET_RAW names."""
    write_sysu_mm01(tmp_path / "given", train=2, val=1, test=2)
    monkeypatch.setenv("MSCLNET_RAW", str(tmp_path / "given"))
    for name in ("MSCLNET_PROJECT", "MSCLNET_HOME"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_official_galleries_need_their_file_before_anything_is_read(project: Path) -> None:
    params = preset("sysu-mm01", samplers=["agw", "official"], permutations="mine/rand_perm_cam.mat")
    with pytest.raises(UserError, match=r"evaluate\.permutations: .*mine/rand_perm_cam\.mat: no such file"):
        source(params)
    assert not FOUND.exists()
    (project / "mine").mkdir()
    (project / "mine/rand_perm_cam.mat").write_bytes(b"<html>not found</html>" * 20)
    with pytest.raises(UserError, match=r"mine/rand_perm_cam\.mat is not SYSU-MM01's rand_perm_cam\.mat"):
        source(params)
    assert not FOUND.exists()
    write_permutations(project / "mine/rand_perm_cam.mat", seed=0)
    source(params)
    assert json.loads(FOUND.read_text())["dataset"] == "sysu-mm01"


def test_other_galleries_are_noticed(project: Path) -> None:
    """By their content: `evaluate` depends on what is written here, and `download` does not."""
    params = preset("sysu-mm01", samplers=["official"], permutations="p.mat")
    written, found = [], []
    for seed in (0, 0, 1):
        write_permutations(project / "p.mat", seed=seed)
        source(params)
        written.append(GALLERIES.read_text())
        found.append(FOUND.read_text())
    assert written[0] == written[1] != written[2]
    assert len(set(found)) == 1
    stages = read_yaml(ROOT / "dvc.yaml")["stages"]
    assert [name for name, stage in stages.items() if str(GALLERIES.parent) in stage.get("deps", ())] == [
        "evaluate"
    ]


def test_the_file_may_be_named_from_home(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(project.parent))
    write_permutations(project.parent / "p.mat", seed=0)
    source(preset("sysu-mm01", samplers=["official"], permutations="~/p.mat"))


def test_nobody_else_needs_that_file(project: Path) -> None:
    source(preset("sysu-mm01", samplers=["agw"], permutations="nowhere.mat"))
    source(preset("llcm", samplers=["official"], permutations="nowhere.mat"))
    assert json.loads(GALLERIES.read_text()) == {"sha256": None}


def test_what_a_killed_download_left_is_removed_even_if_there_is_nothing_to_download(project: Path) -> None:
    LEFT.parent.mkdir(parents=True)
    LEFT.write_bytes(b"half of an archive")
    source(preset("sysu-mm01"))
    assert not LEFT.exists()


def test_what_another_process_is_writing_stays(project: Path) -> None:
    LEFT.parent.mkdir(parents=True)
    with exclusive(LEFT) as file:
        file.write(b"half of an archive")
        source(preset("sysu-mm01"))
        assert LEFT.exists()
