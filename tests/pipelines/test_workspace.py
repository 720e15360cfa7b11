"""Isolated runs: what they take along, what they leave alone, and the experiment that they end as."""

import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import tiny_project
from tiny_project import dvc, git, wait_for

from msclnet.errors import UserError
from pipelines.orchestration import experiments, runs
from pipelines.orchestration.experiments import Experiment, apply_overrides, check_experiments
from pipelines.orchestration.runs import run_workspace
from pipelines.orchestration.stage_process import StageCancelledError, run_dvc
from pipelines.orchestration.workspace import FLOWS, experiment_commit, held, isolated

FOLDER = "prä?%20'\"ject"


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    return tiny_project.setup(tmp_path / FOLDER, monkeypatch)


def run_experiment(root: Path, **given: Any) -> runs.RunResult:
    how = {key: given.pop(key) for key in ("replace", "stop", "log") if key in given}
    return runs.run_experiment(root, Experiment(**given), **{"log": lambda line: None, **how})


def state_of(root: Path) -> dict[str, object]:
    """Everything of the user's that a run must not touch."""
    files = {
        str(path.relative_to(root)): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(root.rglob("*"))
        if path.is_file() and not {".git", "tmp", "cache"} & set(path.relative_to(root).parts[:2])
    }
    return {
        "files": files,
        "index": (root / ".git" / "index").read_bytes(),
        "status": git(root, "status", "--porcelain=v2"),
        "stash": git(root, "stash", "list"),
        "heads": git(root, "for-each-ref", "refs/heads", "refs/stash", "refs/tags"),
        "head": (root / ".git" / "HEAD").read_text(),
        "config": (root / ".git" / "config").read_text(),
    }


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_an_experiment_has_the_users_edits_and_leaves_his_tree_alone(tiny: tuple[Path, Path]) -> None:
    root, home = tiny
    (root / "common.py").write_text((root / "common.py").read_text() + "\n# stashed\n")
    git(root, "stash", "push", "--quiet")
    edit(root / "evaluate.py", '"mAP": epochs / 20', '"mAP": epochs / 20, "edited": 1')  # not staged
    edit(root / "prepare.py", "row", "line")
    git(root, "add", "prepare.py")  # staged
    (root / "new ä.txt").write_text("untracked")
    (root / "ignored.txt").write_text("ignored, yet tracked from now on")
    edit(root / ".gitignore", "__pycache__/", "__pycache__/\n/ignored.txt")
    git(root, "add", "--force", "ignored.txt")
    (root / "presets" / "smoke.yaml").unlink()
    before = state_of(root)

    result = run_experiment(root, overrides={"train.epochs": 3}, name="three")

    assert state_of(root) == before
    assert result.stages == {"prepare": "run", "train": "run", "evaluate": "run"}
    assert result.metrics == {"all": {"single": {"rank-1": 0.3, "mAP": 0.15, "edited": 1}}}
    assert tiny_project.runs(home) == ["prepare", "train 3", "evaluate"]
    files = git(root, "-c", "core.quotePath=off", "ls-tree", "-r", "--name-only", result.rev).splitlines()
    assert {"new ä.txt", "ignored.txt", "dvc.lock"} <= set(files)
    assert not {"presets/smoke.yaml", ".dvc/config.local"} & set(files)
    assert "line" in tiny_project.read_from(root, result.rev, "prepare.py")
    assert git(root, "rev-parse", f"{result.rev}^") == git(root, "rev-parse", "HEAD")
    assert git(root, "log", "-1", "--format=%an", result.rev).strip() == "msclnet"  # none is configured
    message = git(root, "log", "-1", "--format=%B", result.rev)
    assert message.strip().endswith("\n\nMLflow-run: run-3")
    assert json.loads(tiny_project.output_of(root, result.rev, "results/train/run.json"))["home"] == str(root)

    found = tiny_project.experiments(root)["three"]
    assert found["params"]["train"]["epochs"] == 3
    assert found["metrics"]["results/metrics/metrics.json"] == result.metrics
    git(root, "config", "user.name", "tiny")  # dvc exp apply itself asks for it
    git(root, "config", "user.email", "tiny@localhost")
    dvc(root, "exp", "apply", "three")
    assert (root / "results/model/weights.txt").read_text() == "3"
    assert "epochs: 3" in (root / "params.yaml").read_text()
    dvc(root, "exp", "remove", "three")
    assert "three" not in git(root, "for-each-ref", "refs/exps")


def test_each_stage_runs_once_for_its_inputs_and_a_name_is_kept(tiny: tuple[Path, Path]) -> None:
    root, home = tiny

    def statuses(until: str = "train", **overrides: object) -> list[str]:
        by_key = {key.replace("_", "."): value for key, value in overrides.items()}
        return [*run_experiment(root, overrides=by_key, name="a", until=until).stages.values()]

    assert run_workspace(root, last_stage="prepare", log=print).stages == {"prepare": "run"}
    assert statuses(train_epochs=3) == ["restored", "run"]  # a new clone has no outputs yet
    assert statuses(train_epochs=3) == ["unchanged", "restored"]
    with pytest.raises(UserError, match=r"'a' with other inputs exists.*dvc exp remove a"):
        statuses(train_epochs=4)
    four = Experiment(overrides={"train.epochs": 4}, name="a")
    with pytest.raises(UserError, match=r"other parameters \(train\.epochs: 3 -> 4\).*dvc exp remove a"):
        check_experiments(root, [four])

    # The user goes to the values of the experiment: nothing is computed again.
    edit(root / "params.yaml", "epochs: 2", "epochs: 3")
    assert run_workspace(root, first_stage="train", last_stage="train").stages == {"train": "restored"}
    assert tiny_project.runs(home) == ["prepare", "train 3"]


def test_edits_of_the_same_size_and_time_are_seen_saved_and_do_not_leak(tiny: tuple[Path, Path]) -> None:
    root, _ = tiny
    long_ago = (1_600_000_000, 1_600_000_000)
    params = root / "params.yaml"
    git(root, "config", "core.trustctime", "false")
    os.utime(params, long_ago)
    git(root, "update-index", "--refresh")
    content = params.read_bytes().replace(b"epochs: 2", b"epochs: 3")
    params.write_bytes(content)
    os.utime(params, long_ago)
    assert git(root, "status", "--porcelain") == ""  # the trap: git takes the file for clean

    with isolated(root) as copy:
        inside = copy.path / "params.yaml"
        assert inside.read_bytes() == content
        git(copy.path, "config", "core.trustctime", "false")
        os.utime(inside, long_ago)
        subprocess.run(["git", "update-index", "--refresh"], cwd=copy.path, check=False)
        apply_overrides(inside, {"train.epochs": 4})
        os.utime(inside, long_ago)
        assert git(copy.path, "status", "--porcelain", "params.yaml").startswith(
            "M "
        )  # the trap, in the clone
        copy.prepare_to_save()
        code, tail = run_dvc(
            copy.path,
            "exp",
            "run",
            "--name",
            "four",
            "prepare",
            environment={**os.environ, **path_to_python()},
        )
        assert code == 0, tail
        rev = copy.publish("four")
    assert "epochs: 4" in tiny_project.read_from(root, rev, "params.yaml")

    with isolated(root) as again:
        assert again.path == copy.path
        assert (again.path / "params.yaml").read_bytes() == content


def path_to_python() -> dict[str, str]:
    return {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}


def test_what_a_run_leaves_in_a_clone_does_not_reach_the_next(tiny: tuple[Path, Path]) -> None:
    root, _ = tiny
    with isolated(root) as copy:
        (copy.path / "stray.py").write_text("1")
        (copy.path / "folder").mkdir()
        (copy.path / "folder" / "stray.py").write_text("1")
        (copy.path / "dvc.lock").write_text("stages: {}\n")
        (copy.path / "data").mkdir()
        (copy.path / "data" / "kept.txt").write_text("ignored by git: DVC's own")
        (copy.path / ".git" / "index.lock").touch()
        git(copy.path, "update-ref", "refs/exps/aa/bb/former", "HEAD")
    with isolated(root) as again:
        assert again.path == copy.path
        names = {path.name for path in again.path.iterdir()}
        assert git(again.path, "for-each-ref", "refs/exps") == ""
    assert names == {Path(name).parts[0] for name in tiny_project.FILES} | {
        ".dvc",
        ".dvcignore",
        ".git",
        "data",
    }

    (copy.path / ".git" / "HEAD").write_text("broken")
    with isolated(root) as repaired:
        assert (repaired.path / "params.yaml").exists()


def test_a_clone_sees_the_links_to_raw_data(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    root, _ = tiny
    archive = tmp_path / "archive.zip"
    archive.write_text("images")
    (root / "data" / "source").mkdir(parents=True)
    (root / "data" / "source" / "README.md").write_text("where to apply")
    git(root, "add", "--force", "data/source/README.md")
    (root / "data" / "source" / "absolute").symlink_to(archive)
    (root / "data" / "source" / "relative").symlink_to(os.path.relpath(archive, root / "data" / "source"))
    (root / "data" / "source" / "folder").mkdir()
    with isolated(root) as copy:
        source = copy.path / "data" / "source"
        assert not (source / "README.md").is_symlink()
        assert {name: (source / name).resolve() for name in ("absolute", "relative", "folder")} == {
            "absolute": archive,
            "relative": archive,
            "folder": root / "data" / "source" / "folder",
        }
    (root / "data" / "source" / "relative").unlink()
    with isolated(root) as again:
        assert sorted(path.name for path in (again.path / "data" / "source").iterdir()) == [
            "README.md",
            "absolute",
            "folder",
        ]


def test_clones_are_exclusive_and_an_orphans_clone_is_left_alone(tiny: tuple[Path, Path]) -> None:
    root, _ = tiny
    with isolated(root) as first, isolated(root) as second:
        assert first.path != second.path
    orphan = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], cwd=first.path)
    try:
        with isolated(root) as third:
            assert third.path == second.path
    finally:
        orphan.kill()
        orphan.wait()
    with isolated(root) as fourth:
        assert fourth.path == first.path


def test_two_at_once_run_side_by_side_and_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, home = tiny_project.setup(tmp_path / FOLDER, monkeypatch, processes=True)
    before = state_of(root)

    def run(own: int, other: int) -> runs.RunResult:
        return run_experiment(root, overrides={"train.epochs": own, "train.meet": [other]}, until="train")

    with ThreadPoolExecutor(2) as pool:  # each training waits until the other one has begun
        results = list(pool.map(run, (3, 4), (4, 3)))

    for result, epochs in zip(results, (3, 4), strict=True):
        assert result.name.startswith(f"epochs-{epochs}-meet-")
        assert f"epochs: {epochs}" in tiny_project.read_from(root, result.rev, "params.yaml")
        assert f"run-{epochs}" in tiny_project.output_of(root, result.rev, "results/train/run.json")
    refs = git(root, "for-each-ref", "--format=%(objectname)", "refs/exps").split()
    assert sorted(refs) == sorted(result.rev for result in results)
    assert sorted(run for run in tiny_project.runs(home) if "train" in run) == ["train 3", "train 4"]
    assert state_of(root) == before


def test_a_run_waits_for_one_with_the_same_inputs_and_for_the_working_tree(tiny: tuple[Path, Path]) -> None:
    root, home = tiny
    with isolated(root) as copy:
        apply_overrides(copy.path / "params.yaml", {"train.epochs": 3})
        inputs = copy.inputs(outputs=["data/prepared"])

    def waits(lock: Path, run: Any) -> str:
        lines: list[str] = []
        stop = Event()
        with held(root / FLOWS / lock, waiting="", log=print), ThreadPoolExecutor(1) as pool:
            future = pool.submit(run, log=lines.append, stop=stop)
            wait_for(lambda: bool(lines), what="the second run")
            assert not future.done()
            stop.set()
            with pytest.raises(StageCancelledError):
                future.result(900)
        return lines[0]

    same = {"overrides": {"train.epochs": 3}, "until": "prepare"}
    line = waits(Path("locks", f"inputs-{inputs}"), lambda **how: run_experiment(root, **same, **how))
    assert line == "another run has the same inputs: waiting for its end"
    line = waits(Path("workspace.lock"), lambda **how: run_workspace(root, last_stage="prepare", **how))
    assert line == "another run works in this working tree: waiting for its end"
    assert tiny_project.runs(home) == []


def test_mistakes_stop_before_the_first_stage(
    tiny: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, home = tiny

    def refuse(params: Path) -> None:
        if "epochs: 0" in params.read_text():
            raise UserError(f"{params} is not valid:\n  train.epochs: at least 1, not 0")

    monkeypatch.setattr(experiments, "load_params", refuse)
    for message, wrong in {
        "did you mean 'train.epochs'": {"overrides": {"train.epoch": 3}},
        "no preset 'smok'": {"preset": "smok"},
        "no stage 'trian'.*did you mean 'train'": {"overrides": {"train.epochs": 3}, "until": "trian"},
        # The user knows the override, and not the clone's params.yaml.
        r"^params\.yaml with train\.epochs=0 is not valid:\n": {"overrides": {"train.epochs": 0}},
        r"^presets/smoke\.yaml with train\.epochs=0 is": {
            "preset": "smoke",
            "overrides": {"train": {"epochs": 0}},
        },
        "cannot be an experiment's name": {"overrides": {"train.epochs": 3}, "name": "a/b"},
    }.items():
        with pytest.raises(UserError, match=message):
            run_experiment(root, **wrong)
    bare = tmp_path / "bare"
    bare.mkdir()
    for name, text in tiny_project.FILES.items():
        (bare / name).parent.mkdir(exist_ok=True)
        (bare / name).write_text(text)
    with pytest.raises(UserError, match=r"no git history.*git init && git add -A && git commit"):
        run_experiment(bare, overrides={"train.epochs": 3})

    assert tiny_project.runs(home) == []


def test_the_users_dvc_cache_is_shared_and_a_shallow_clone_will_do(
    tiny: tuple[Path, Path], tmp_path: Path
) -> None:
    root, _ = tiny
    shallow = tmp_path / "shallow"
    git(root, "commit", "--quiet", "--allow-empty", "--message=second")
    subprocess.run(["git", "clone", "--quiet", "--depth=1", root.as_uri(), str(shallow)], check=True)
    (shallow / ".dvc" / "config.local").write_text("[cache]\n    dir = ../../shared\n")
    result = run_experiment(shallow, overrides={"prepare.size": 5}, until="prepare")

    assert result.stages == {"prepare": "run"}
    base = git(shallow, "rev-parse", "HEAD").strip()
    assert experiment_commit(shallow, base, result.name) == result.rev
    assert list((tmp_path / "shared" / "files" / "md5").rglob("*.dir"))
    assert not (shallow / ".dvc" / "cache").exists()
