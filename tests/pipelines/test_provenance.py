"""The name of a training: another one for everything that changes it, the same one for all else."""

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from msclnet.datasets.records import Record
from msclnet.images.table import Entry, write_manifest
from pipelines.stages import train as provenance
from pipelines.stages.config import Params, check_params
from pipelines.stages.train import code_digest, dataset_facts, git_commit, stage_code, training_key

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
    """A copy of the project's code with a small manifest, as the working folder."""
    for package in ("msclnet", "pipelines"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    (tmp_path / "data/processed").mkdir(parents=True)
    write_manifest(tmp_path / "data/processed/manifest.csv", [Entry(r, "0" * 64) for r in RECORDS])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def key(params: Params | None = None, *, device: str = "cpu") -> str:
    return training_key(params or check_params(PRESET, source="preset"), device=device)


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


def test_every_parameter_of_the_training_counts_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    digest = code_digest(stage_code("train"))
    monkeypatch.setattr(provenance, "code_digest", lambda _: digest)  # the code stays: read it once
    original = key()
    keys = {path: key(with_value(path, another(value))) for path, value in LEAVES}
    changing = {path for path, found in keys.items() if found != original}
    assert changing == {path for path, _ in LEAVES if path[0] in TRAINING}
    assert len({keys[path] for path in changing}) == len(changing), "different changes, different keys"
    assert {path[0] for path, _ in LEAVES} - set(TRAINING) == {
        "profile",
        "download",
        "embed",
        "evaluate",
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


@pytest.mark.parametrize(
    "path",
    [
        "pipelines/stages/train.py",
        "msclnet/training/loop.py",
        "msclnet/models/network.py",
        "msclnet/losses/cascade.py",
        "msclnet/images/sampler.py",
    ],
)
def test_the_code_of_the_training_counts(project: Path, path: str) -> None:
    original = key()
    with (project / path).open("a", encoding="utf-8") as file:
        file.write("\n# a remark\n")
    assert key() != original


@pytest.mark.parametrize(
    "path",
    [
        "pipelines/stages/visualize.py",
        "pipelines/stages/evaluate.py",
        "msclnet/figures/style.py",
        "dvc.yaml",
        "README.md",
    ],
)
def test_other_code_does_not_count(project: Path, path: str) -> None:
    original = key()
    with (project / path).open("a", encoding="utf-8") as file:
        file.write("\n# a remark\n")
    assert key() == original


def test_new_and_renamed_modules_count(project: Path) -> None:
    keys = [key()]
    (project / "msclnet/losses/new.py").write_text("")
    keys.append(key())
    (project / "msclnet/losses/new.py").rename(project / "msclnet/losses/newer.py")
    keys.append(key())
    assert len(set(keys)) == 3
    (project / "msclnet/losses/newer.py").unlink()
    (project / "msclnet/losses/__pycache__").mkdir()
    (project / "msclnet/losses/__pycache__/sub.pyc").write_bytes(b"compiled")
    assert key() == keys[0]


def test_code_of_a_stage_is_what_dvc_names(project: Path) -> None:
    (project / "dvc.yaml").write_text(
        "stages:\n  one:\n    cmd: x\n    deps: [data/raw/a.zip, pipelines/one.py, msclnet/losses]\n"
    )
    assert stage_code("one") == [Path("pipelines/one.py"), Path("msclnet/losses")]


def test_code_digest_in_closed_form(tmp_path: Path) -> None:
    folder = Path("some")
    (folder / "inner").mkdir(parents=True)
    (folder / "b.py").write_bytes(b"two")
    (folder / "inner/a.py").write_bytes(b"one")
    (folder / "data.csv").write_bytes(b"no code")
    text = b"some/b.py\0two\0some/inner/a.py\0one\0"
    assert code_digest([folder]) == hashlib.sha256(text).hexdigest()
    assert code_digest([Path("some/inner"), folder, Path("some/b.py")]) == code_digest([folder])


def test_dataset_facts() -> None:
    facts = dataset_facts(check_params(PRESET, source="preset"))
    assert facts["name"] == "synthetic"
    assert facts["counts"] == {
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
    assert hashlib.sha256(manifest).hexdigest().startswith(facts["digest"])


def git(*arguments: str) -> str:
    names = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false")
    run = subprocess.run(["git", *names, *arguments], capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_git_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit() == "none"
    git("init", "--quiet")
    assert git_commit() == "none"
    git("add", "dvc.yaml")
    git("commit", "--quiet", "-m", "first")
    commit = git("rev-parse", "HEAD")
    assert git_commit() == commit
    git("tag", "v1")
    assert git_commit() == commit
    Path("dvc.yaml").write_text("changed")
    assert git_commit() == f"{commit}-dirty"
    monkeypatch.setenv("PATH", str(tmp_path / "no programs"))
    assert git_commit() == "none"
