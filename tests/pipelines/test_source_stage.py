"""The stage `source` runs before all others: what it finds missing from outside stops nobody after days of training."""

import json
from pathlib import Path
from typing import Any

import pytest
from replicas import write_sysu_mm01
from ruamel.yaml import YAML

from msclnet.data.acquire.files import exclusive
from msclnet.errors import UserError
from pipelines.config import Params, check_params
from pipelines.source import source

ROOT = Path(__file__).resolve().parents[2]
LEFT = Path("data/raw/.images.zip.partial")
FOUND = Path("data/source/images.json")


def preset(name: str, **evaluate: Any) -> Params:
    values = YAML(typ="safe", pure=True).load((ROOT / f"presets/{name}.yaml").read_text(encoding="utf-8"))
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
    (project / "mine/rand_perm_cam.mat").touch()
    source(params)
    assert json.loads(FOUND.read_text())["dataset"] == "sysu-mm01"


def test_the_file_may_be_named_from_home(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(project.parent))
    (project.parent / "p.mat").touch()
    source(preset("sysu-mm01", samplers=["official"], permutations="~/p.mat"))


def test_nobody_else_needs_that_file(project: Path) -> None:
    source(preset("sysu-mm01", samplers=["agw"], permutations="nowhere.mat"))
    source(preset("llcm", samplers=["official"], permutations="nowhere.mat"))


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
