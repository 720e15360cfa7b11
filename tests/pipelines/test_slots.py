import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_project
from tiny_project import dvc, git, wait_for

from msclnet.errors import UserError
from pipelines.orchestration.locks import held_lock, try_lock
from pipelines.orchestration.overrides import apply_overrides
from pipelines.orchestration.runs import RunOptions, run_experiment, run_workspace
from pipelines.orchestration.slots import slot

QUIETLY = RunOptions(on_line=lambda line: None)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    return tiny_project.setup(tmp_path, monkeypatch)


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


def in_thread(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    return thread, results


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

    result = run_experiment(root, overrides={"train.epochs": 3}, options=QUIETLY)

    assert state_of(root) == before
    assert result.stages == {"prepare": "run", "train": "run", "evaluate": "run"}
    assert result.metrics == {"all": {"single": {"rank-1": 0.3, "mAP": 0.15, "edited": 1}}}
    assert tiny_project.runs(home) == ["prepare", "train 3", "evaluate"]
    files = git(root, "-c", "core.quotePath=off", "ls-tree", "-r", "--name-only", result.rev).splitlines()
    assert {"new ä.txt", "ignored.txt", "dvc.lock", "results/train/run.json"} <= set(files)
    assert not {"presets/smoke.yaml", ".dvc/config.local"} & set(files)
    assert "line" in tiny_project.read_from(root, result.rev, "prepare.py")
    assert git(root, "rev-parse", f"{result.rev}^") == git(root, "rev-parse", "HEAD")
    assert (
        git(root, "log", "-1", "--format=%an", result.rev).strip() == "msclnet"
    )  # no identity is configured
    assert json.loads(tiny_project.read_from(root, result.rev, "results/train/run.json"))["home"] == str(root)


def test_dvc_finds_applies_compares_and_removes_the_experiment(tiny: tuple[Path, Path]) -> None:
    root, home = tiny
    first = run_experiment(root, overrides={"train.epochs": 3}, name="three", options=QUIETLY)
    second = run_experiment(root, preset="smoke", name="smoke", until="train", options=QUIETLY)

    found = tiny_project.experiments(root)
    assert sorted(found) == ["smoke", "three"]
    assert found["three"]["params"]["train"]["epochs"] == 3
    assert found["three"]["metrics"]["results/metrics/metrics.json"] == first.metrics
    assert found["smoke"]["params"]["train"]["epochs"] == 1
    assert found["smoke"]["metrics"]["results/train/run.json"]["run_id"] == "run-1"
    assert "train.epochs" in dvc(root, "exp", "diff", "smoke", "three", "--md")
    dvc(root, "exp", "branch", "smoke", "kept")
    assert git(root, "rev-parse", "kept").strip() == second.rev

    git(root, "config", "user.name", "tiny")  # dvc exp apply itself asks for it
    git(root, "config", "user.email", "tiny@localhost")
    dvc(root, "exp", "apply", "three")
    assert (root / "results/model/weights.txt").read_text() == "3"
    assert "epochs: 3" in (root / "params.yaml").read_text()
    applied = run_workspace(root, options=QUIETLY)
    assert applied.stages == dict.fromkeys(["prepare", "train", "evaluate"], "unchanged")
    assert applied.metrics == first.metrics
    assert tiny_project.runs(home) == ["prepare", "train 3", "evaluate", "train 1"]

    dvc(root, "exp", "remove", "three")
    assert git(root, "for-each-ref", first.ref) == ""


def test_each_stage_runs_once_for_its_inputs(tiny: tuple[Path, Path]) -> None:
    root, home = tiny

    def statuses(**overrides: object) -> list[str]:
        by_key = {key.replace("_", "."): value for key, value in overrides.items()}
        result = run_experiment(root, overrides=by_key, options=QUIETLY)
        return [*result.stages.values(), "reused" if result.reused else "new"]

    assert [*run_workspace(root, options=QUIETLY).stages.values()] == ["run", "run", "run"]
    assert statuses(train_epochs=3) == ["restored", "run", "run", "new"]  # a new slot has no outputs yet
    assert statuses(train_epochs=3) == ["unchanged", "unchanged", "unchanged", "reused"]
    assert statuses(evaluate_k=5) == ["unchanged", "restored", "run", "new"]
    # The user goes to the values of an experiment and back: nothing is computed again.
    edit(root / "params.yaml", "epochs: 2", "epochs: 3")
    assert [*run_workspace(root, options=QUIETLY).stages.values()] == ["unchanged", "restored", "restored"]
    assert (root / "results/model/weights.txt").read_text() == "3"
    edit(root / "params.yaml", "epochs: 3", "epochs: 2")
    back = run_workspace(root, options=QUIETLY)
    assert [*back.stages.values()] == ["unchanged", "restored", "restored"]
    assert back.metrics == {"all": {"single": {"rank-1": 0.2, "mAP": 0.1}}}
    assert run_workspace(root, since="evaluate", options=QUIETLY).stages == {"evaluate": "unchanged"}
    assert tiny_project.runs(home) == ["prepare", "train 2", "evaluate", "train 3", "evaluate", "evaluate"]


def test_an_edit_of_the_same_size_and_time_is_seen_by_the_snapshot(tiny: tuple[Path, Path]) -> None:
    root, _ = tiny
    params = root / "params.yaml"
    git(root, "config", "core.trustctime", "false")
    os.utime(params, (1_600_000_000, 1_600_000_000))
    git(root, "update-index", "--refresh")
    content = params.read_bytes().replace(b"epochs: 2", b"epochs: 3")
    params.write_bytes(content)
    os.utime(params, (1_600_000_000, 1_600_000_000))
    assert git(root, "status", "--porcelain") == ""  # the trap: git takes the file for clean

    with slot(root) as copy:
        assert (copy.path / "params.yaml").read_bytes() == content


def test_an_override_of_the_same_size_and_time_is_saved_and_does_not_leak(tiny: tuple[Path, Path]) -> None:
    root, _ = tiny
    original = (root / "params.yaml").read_bytes()
    with slot(root) as copy:
        params = copy.path / "params.yaml"
        git(copy.path, "config", "core.trustctime", "false")
        os.utime(params, (1_600_000_000, 1_600_000_000))
        subprocess.run(["git", "update-index", "--refresh"], cwd=copy.path, check=True)
        apply_overrides(params, {"train.epochs": 3})
        changed = params.read_bytes()
        os.utime(params, (1_600_000_000, 1_600_000_000))
        assert len(changed) == len(original)
        assert git(copy.path, "status", "--porcelain") == ""  # the trap, within the slot
        rev = copy.save("refs/exps/test", message="test")
    assert tiny_project.read_from(root, rev, "params.yaml").encode() == changed

    with slot(root) as again:
        assert again.path == copy.path
        assert (again.path / "params.yaml").read_bytes() == original


def test_what_a_run_leaves_in_a_slot_does_not_reach_the_next(tiny: tuple[Path, Path]) -> None:
    root, _ = tiny
    with slot(root) as copy:
        (copy.path / "stray.py").write_text("1")
        (copy.path / "folder").mkdir()
        (copy.path / "folder" / "stray.py").write_text("1")
        (copy.path / "dvc.lock").write_text("stages: {}\n")
        (copy.path / "data").mkdir()
        (copy.path / "data" / "kept.txt").write_text("ignored by git: DVC's own")
        (copy.path / ".git" / "index.lock").touch()
    with slot(root) as again:
        assert again.path == copy.path
        names = {path.name for path in again.path.iterdir()}
    assert names == {Path(name).parts[0] for name in tiny_project.FILES} | {
        ".dvc",
        ".dvcignore",
        ".git",
        "data",
    }

    (copy.path / ".git" / "HEAD").write_text("broken")
    with slot(root) as repaired:
        assert (repaired.path / "params.yaml").exists()


def test_slots_are_exclusive_and_an_orphans_slot_is_left_alone(tiny: tuple[Path, Path]) -> None:
    root, _ = tiny
    with slot(root) as first, slot(root) as second:
        assert first.path != second.path
    orphan = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], cwd=first.path)
    try:
        with slot(root) as third:
            assert third.path == second.path
    finally:
        orphan.kill()
        orphan.wait()
    # The lock's descriptor is the child's, too: a killed parent does not free the slot.
    with slot(root) as fourth:
        assert fourth.path == first.path
        child = subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(fourth.lock,)
        )
    lock = first.path.with_name("0.lock")
    assert try_lock(lock) is None
    child.communicate()
    free = try_lock(lock)
    assert free is not None
    os.close(free)


RUN = """
import json, sys
from pathlib import Path
from typing import Any
from pipelines.orchestration.runs import RunOptions, run_experiment
overrides = json.loads(sys.argv[2])
options = RunOptions(on_line=lambda line: None)
result = run_experiment(Path(sys.argv[1]), overrides=overrides, until="train", options=options)
print(json.dumps([result.name, result.rev]))
"""


def test_two_at_once_run_side_by_side_and_do_not_mix(tiny: tuple[Path, Path]) -> None:
    root, home = tiny
    before = state_of(root)
    # Each training waits until the other one has begun: in a queue neither would ever end.
    children = [
        subprocess.Popen(
            [sys.executable, "-c", RUN, str(root), json.dumps({"train.epochs": own, "train.meet": [other]})],
            stdout=subprocess.PIPE,
            text=True,
        )
        for own, other in ((3, 4), (4, 3))
    ]
    results = [json.loads(child.communicate(timeout=120)[0]) for child in children]

    assert [child.returncode for child in children] == [0, 0]
    for (_, rev), epochs in zip(results, (3, 4), strict=True):
        assert f"epochs: {epochs}" in tiny_project.read_from(root, rev, "params.yaml")
        assert f"run-{epochs}" in tiny_project.read_from(root, rev, "results/train/run.json")
    refs = git(root, "for-each-ref", "--format=%(objectname)", "refs/exps").split()
    assert sorted(refs) == sorted(rev for _, rev in results)
    assert sorted(run for run in tiny_project.runs(home) if "train" in run) == ["train 3", "train 4"]
    assert state_of(root) == before


def test_the_same_run_twice_at_once_trains_once(tiny: tuple[Path, Path]) -> None:
    root, home = tiny
    first = run_experiment(root, overrides={"train.epochs": 3}, options=QUIETLY)
    lines: list[str] = []
    inputs = git(root, "log", "-1", "--format=%B", first.rev).split("inputs: ")[1].split()[0]
    with held_lock(root / ".dvc" / "tmp" / "flows" / "locks" / f"inputs-{inputs}"):
        thread, results = in_thread(
            lambda: run_experiment(
                root, overrides={"train.epochs": 3}, options=RunOptions(on_line=lines.append)
            )
        )
        wait_for(lambda: bool(lines), what="the second run's word")
        assert lines == ["another run has the same inputs: waiting for its end"]
        assert results == []
    thread.join(60)

    assert [result.rev for result in results] == [first.rev]
    assert tiny_project.runs(home) == ["prepare", "train 3", "evaluate"]


def test_a_second_run_in_the_working_tree_waits_and_says_so(tiny: tuple[Path, Path]) -> None:
    root, _ = tiny
    lines: list[str] = []
    with held_lock(root / ".dvc" / "tmp" / "flows" / "workspace.lock"):
        thread, results = in_thread(
            lambda: run_workspace(root, until="prepare", options=RunOptions(on_line=lines.append))
        )
        wait_for(lambda: bool(lines), what="the second run's word")
        assert lines == ["another run works in this working tree: waiting for its end"]
        assert results == []
    thread.join(60)

    assert [result.stages for result in results] == [{"prepare": "run"}]


def test_a_crash_is_tried_again_and_a_mistake_is_not(tiny: tuple[Path, Path]) -> None:
    root, home = tiny
    crashed = run_experiment(root, overrides={"train.epochs": 500}, until="train", options=QUIETLY)
    assert crashed.stages == {"prepare": "run", "train": "run"}
    assert crashed.metrics == {}
    with pytest.raises(UserError, match=r"^data/raw is missing: run download$"):
        run_experiment(root, overrides={"train.epochs": 404}, options=QUIETLY)

    assert tiny_project.runs(home) == ["prepare", "train 500", "train 500", "train 404"]
    assert len(git(root, "for-each-ref", "refs/exps").splitlines()) == 1


def test_equality_is_of_inputs_and_needs_the_outputs(tiny: tuple[Path, Path]) -> None:
    root, home = tiny
    override = {"train.epochs": 3}
    short = run_experiment(root, overrides=override, name="a", until="prepare", options=QUIETLY)
    longer = run_experiment(root, overrides=override, name="a", until="train", options=QUIETLY)
    assert not longer.reused
    assert longer.rev != short.rev
    with pytest.raises(UserError, match=r"'a' with other inputs exists.*dvc exp remove a"):
        run_experiment(root, overrides={"train.epochs": 4}, name="a", options=QUIETLY)
    assert run_experiment(root, overrides=override, name="a", until="train", options=QUIETLY).reused
    assert tiny_project.runs(home) == ["prepare", "train 3"]

    # The ref still says that it is done, but its results were collected: dvc gc -w does that.
    shutil.rmtree(root / ".dvc" / "cache")
    shutil.rmtree(root / ".dvc" / "tmp" / "flows" / "0" / "results")
    again = run_experiment(root, overrides=override, name="a", until="train", options=QUIETLY)
    assert not again.reused
    assert tiny_project.runs(home)[-1] == "train 3"


def test_mistakes_stop_before_the_first_stage(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    root, home = tiny

    def refuse(params: Path) -> None:
        raise UserError(f"{params.name}: train.epochs: {params.read_text().count('epochs: 0')} wrong value")

    for message, wrong in {
        "did you mean train.epochs": {"overrides": {"train.epoch": 3}},
        "no preset 'smok'": {"preset": "smok"},
        "no stage 'trian'.*did you mean train": {"overrides": {"train.epochs": 3}, "until": "trian"},
        "params.yaml: train.epochs: 1 wrong": {"overrides": {"train.epochs": 0}, "validate": refuse},
        "cannot be an experiment's name": {"overrides": {"train.epochs": 3}, "name": "a/b"},
    }.items():
        with pytest.raises(UserError, match=message):
            run_experiment(root, options=QUIETLY, **wrong)
    bare = tmp_path / "bare"
    bare.mkdir()
    for name, text in tiny_project.FILES.items():
        (bare / name).parent.mkdir(exist_ok=True)
        (bare / name).write_text(text)
    with pytest.raises(UserError, match=r"no git history.*git init && git add -A && git commit"):
        run_experiment(bare, overrides={"train.epochs": 3}, options=QUIETLY)

    assert tiny_project.runs(home) == []


def test_the_users_dvc_settings_hold_in_a_slot_and_a_shallow_clone_will_do(
    tiny: tuple[Path, Path], tmp_path: Path
) -> None:
    root, _ = tiny
    shallow = tmp_path / "shallow"
    git(root, "commit", "--quiet", "--allow-empty", "--message=second")
    git(root, "clone", "--quiet", "--depth=1", f"file://{root}", str(shallow))
    (shallow / ".dvc" / "config.local").write_text(
        "[cache]\n    dir = ../../shared\n[core]\n    remote = far\n['remote \"far\"']\n    url = ../../far\n"
    )
    result = run_experiment(shallow, overrides={"prepare.size": 5}, until="prepare", options=QUIETLY)

    assert result.stages == {"prepare": "run"}
    assert len(git(shallow, "for-each-ref", result.ref).splitlines()) == 1
    copy = shallow / ".dvc" / "tmp" / "flows" / "0"
    assert dvc(copy, "cache", "dir").strip() == str(tmp_path / "shared")
    assert dvc(copy, "remote", "list").split()[:2] == ["far", str(tmp_path / "far")]
    assert (copy / ".dvc" / "config.local").stat().st_mode & 0o077 == 0
    assert list((tmp_path / "shared" / "files" / "md5").rglob("*.dir"))
    assert not (shallow / ".dvc" / "cache").exists()
