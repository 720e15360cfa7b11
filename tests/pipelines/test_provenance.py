"""The name of a training: another one for everything that changes it, the same one for all else."""

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from msclnet.datasets.records import Record
from msclnet.images.table import Entry, write_manifest
from pipelines.stages import train as train_stage
from pipelines.stages.config import Params, check_params
from pipelines.stages.lineage import git_commit, uncommitted_changes
from pipelines.stages.paths import images_of
from pipelines.stages.train import open_training_data, training_key

ROOT = Path(__file__).resolve().parents[2]
PRESET: dict[str, Any] = YAML(typ="safe", pure=True).load((ROOT / "presets/synthetic.yaml").read_text())

RECORDS = (
    Record("cam1/0001/0001.jpg", 1, 1, "visible", "train"),
    Record("cam3/0001/0001.jpg", 1, 3, "infrared", "train"),
    Record("cam3/0002/0001.jpg", 2, 3, "infrared", "train"),
    Record("cam2/0003/0001.jpg", 3, 2, "visible", "val"),
    Record("cam1/0004/0001.jpg", 4, 1, "visible", "test"),
    Record("cam6/0004/0001.jpg", 4, 6, "infrared", "test"),
)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a small manifest."""
    (tmp_path / "data/processed").mkdir(parents=True)
    write_manifest(tmp_path / "data/processed/manifest.csv", [Entry(r, "0" * 64) for r in RECORDS])
    for split in ("train", "val"):
        np.save(tmp_path / images_of(split), np.zeros((3, 2, 1, 3), dtype=np.uint8))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def key(params: Params | None = None, *, device: str = "cpu") -> str:
    return training_key(params or check_params(PRESET, source="preset"), open_training_data(), device=device)


def with_value(path: tuple[Any, ...], value: Any) -> Params:
    """Values as they are, unchecked: the key must tell them apart whether or not they go together."""

    def replaced(model: Any, rest: tuple[Any, ...]) -> Any:
        if not rest:
            return value
        if isinstance(model, list):
            return [replaced(item, rest[1:]) if i == rest[0] else item for i, item in enumerate(model)]
        name = next(n for n, field in type(model).model_fields.items() if rest[0] in (n, field.alias))
        return model.model_copy(update={name: replaced(getattr(model, name), rest[1:])})

    return replaced(check_params(PRESET, source="preset"), path)


def leaves(values: Any, *path: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(values, dict):
        for name, value in values.items():
            yield from leaves(value, *path, name)
    elif isinstance(values, list) and values and isinstance(values[0], dict):
        for i, value in enumerate(values):
            yield from leaves(value, *path, i)
    else:
        yield path, values


def another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, list):
        return [*value[:-1], another(value[-1])]
    return value + 1 if isinstance(value, (int, float)) else f"{value}x"


TRAINING = ("seed", "preprocess", "augment", "model", "synergy", "loss", "train")
LEAVES = list(leaves(PRESET))


def test_same_facts_same_key() -> None:
    assert key() == key()
    assert len(key()) == 16
    int(key(), 16)


def test_every_parameter_of_the_training_counts_and_no_other() -> None:
    data = open_training_data()
    original = key()
    keys = {
        path: training_key(with_value(path, another(value)), data, device="cpu") for path, value in LEAVES
    }
    changing = {path for path, found in keys.items() if found != original}
    validation = {("evaluate", "same_camera")}  # decides what a query of the validation may find
    assert changing == {path for path, _ in LEAVES if path[0] in TRAINING} | validation
    assert len({keys[path] for path in changing}) == len(changing), "different changes, different keys"
    assert {path[0] for path, _ in LEAVES} - set(TRAINING) == {
        "profile",
        "download",
        "embed",
        "evaluate",
        "promote",
        "visualize",
        "tracking",
    }


def test_the_data_counts(project: Path) -> None:
    original = key()
    manifest = project / "data/processed/manifest.csv"
    write_manifest(manifest, [Entry(r, f"{i}" * 64) for i, r in enumerate(RECORDS)])
    changed = key()
    assert changed != original
    write_manifest(manifest, [Entry(r, "0" * 64) for r in RECORDS])
    assert key() == original


def test_the_device_counts() -> None:
    assert key(device="cuda") != key(device="cpu")


@pytest.mark.parametrize(("owner", "name"), [(train_stage, "RECIPE"), (train_stage.torch, "__version__")])
def test_the_recipe_and_torch_count(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    original = key()
    monkeypatch.setattr(owner, name, "another")
    assert key() != original


def test_dataset_facts() -> None:
    facts = open_training_data().info(check_params(PRESET, source="preset"))
    assert facts.name == "synthetic"
    assert facts.counts == {
        "train_visible": 1,
        "train_infrared": 2,
        "train_identities": 2,
        "val_visible": 1,
        "val_infrared": 0,
        "val_identities": 1,
        "test_visible": 1,
        "test_infrared": 1,
        "test_identities": 1,
    }
    manifest = Path("data/processed/manifest.csv").read_bytes()
    assert hashlib.sha256(manifest).hexdigest().startswith(facts.digest)


def git(*arguments: str) -> str:
    names = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false")
    run = subprocess.run(["git", *names, *arguments], capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_git_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit() == "none"
    Path("dvc.yaml").write_text("stages: {}")
    git("init", "--quiet")
    assert git_commit() == "none"
    git("add", "dvc.yaml")
    git("commit", "--quiet", "-m", "first")
    commit = git("rev-parse", "HEAD")
    assert git_commit() == commit
    Path("inner").mkdir()
    monkeypatch.chdir("inner")
    assert git_commit() == "none", "the commit of a repository around the project is not the project's"
    monkeypatch.chdir(tmp_path)
    git("tag", "v1")
    assert git_commit() == commit
    Path("dvc.yaml").write_text("changed")
    assert git_commit() == commit
    monkeypatch.setenv("PATH", str(tmp_path / "no programs"))
    assert git_commit() == "none"


def test_uncommitted_changes_make_the_same_files_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    project, again = tmp_path / "project", tmp_path / "again"
    (project / "pipelines").mkdir(parents=True)
    monkeypatch.chdir(project)
    files = {"params.yaml": b"seed: 0\n", "pipelines/gone.py": b"x = 1\n", "notes.txt": b"mine\n"}
    for name, content in files.items():
        Path(name).write_bytes(content)
    assert uncommitted_changes() == ""
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "-m", "first")
    git("clone", "--quiet", ".", str(again))
    assert uncommitted_changes() == ""
    Path("params.yaml").write_bytes("seed: 1  # Größe\n".encode())
    Path("pipelines/gone.py").unlink()
    Path("pipelines/new file.py").write_bytes(b"y = 2\n")
    Path("pipelines/table.bin").write_bytes(bytes(range(256)))
    Path("notes.txt").write_bytes(b"a password\n")
    before = Path(".git/index").read_bytes()
    changes = uncommitted_changes()
    assert Path(".git/index").read_bytes() == before
    assert "password" not in changes
    subprocess.run(["git", "apply", "-"], cwd=again, input=changes.encode(), check=True)
    for folder in ("pipelines", "params.yaml"):
        there, here = ([*root.rglob("*")] or [root] for root in (again / folder, project / folder))
        assert {p.relative_to(again): p.read_bytes() for p in there} == {
            p.relative_to(project): p.read_bytes() for p in here
        }
