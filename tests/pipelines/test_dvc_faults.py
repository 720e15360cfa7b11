"""Bad luck of `dvc repro` itself: two at once, a killed one and its lock, a cache or folder that cannot be written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_project
from permission_bits import obey_permission_bits, read_only
from tiny_project import dvc, wait_for

MEETING = "meet: [9]"  # the training waits until somebody says that he is number 9


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    root, home = tiny_project.setup(tmp_path, monkeypatch)
    monkeypatch.setenv("MSCLNET_HOME", str(home))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    return root, home


def repro(root: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro"],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=obey_permission_bits,
    )


def refused(root: Path) -> str:
    process = repro(root)
    output = process.communicate(timeout=900)[0]
    assert process.returncode != 0, output
    assert "ERROR: " in output
    assert "Traceback" not in output
    return output


def edit(root: Path, old: str, new: str) -> None:
    text = (root / "params.yaml").read_text()
    assert old in text
    (root / "params.yaml").write_text(text.replace(old, new))


def results(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for folder in ("data", "results")
        for path in (root / folder).rglob("*")
        if path.is_file()
    }


def in_training(root: Path, home: Path, epochs: int) -> "subprocess.Popen[str]":
    """A `dvc repro` whose training has begun and waits."""
    edit(root, "meet: []", MEETING)
    process = repro(root)
    wait_for(lambda: (home / f"here-{epochs}").exists(), what="the training's start")
    return process


def test_a_second_repro_is_refused_and_the_first_one_ends_well(tiny: tuple[Path, Path]) -> None:
    root, home = tiny
    first = in_training(root, home, 2)
    assert f"is busy, it is being blocked by:\n  (PID {first.pid})" in refused(root)
    (home / "here-9").touch()
    output = first.communicate(timeout=900)[0]
    assert first.returncode == 0, output
    assert tiny_project.runs(home) == ["prepare", "train 2", "evaluate"]
    assert "up to date" in dvc(root, "repro"), "nothing is left to do"
    assert json.loads(results(root)["results/metrics/metrics.json"])["all"]["single"]["rank-1"] == 0.2


def test_a_killed_repro_leaves_no_lock_that_counts(tiny: tuple[Path, Path]) -> None:
    root, home = tiny
    first = in_training(root, home, 2)
    first.kill()
    first.wait()
    lock = root / ".dvc" / "tmp" / "rwlock"
    assert str(first.pid) in lock.read_text()
    (home / "here-9").touch()  # the orphaned training ends as well
    assert "had been killed" in dvc_output(root)
    assert tiny_project.runs(home) == ["prepare", "train 2", "train 2", "evaluate"]

    lock.write_text('{"write": {')  # torn, by a full disk or a power cut
    edit(root, "k: 1", "k: 2")
    assert "rwlock" in refused(root)
    lock.unlink()
    dvc(root, "repro")
    assert tiny_project.runs(home)[-1] == "evaluate"


def dvc_output(root: Path) -> str:
    process = repro(root)
    output = process.communicate(timeout=900)[0]
    assert process.returncode == 0, output
    return output


RUN = """
import sys
from pathlib import Path
from msclnet.errors import UserError
from pipelines.orchestration.runs import run_workspace
try:
    run_workspace(Path(sys.argv[1]))
except UserError as error:
    print(f"error: {error}")
"""


def test_a_flow_looks_at_the_cache_before_the_first_stage(tiny: tuple[Path, Path]) -> None:
    root, home = tiny
    cache = root / ".dvc" / "cache"
    cache.mkdir()
    with read_only(cache):
        done = subprocess.run(
            [sys.executable, "-c", RUN, str(root)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
            preexec_fn=obey_permission_bits,
            capture_output=True,
            text=True,
        )
    assert done.stdout.startswith(
        f"error: the DVC cache {cache} cannot be written (Permission denied): make room"
    )
    assert tiny_project.runs(home) == []


@pytest.mark.parametrize(
    ("folder", "changes", "repeated"),
    [
        # DVC notices when the training is done; the real training's checkpoint makes its repetition short.
        (".dvc/cache", True, ["train 3"]),
        ("data", False, []),
    ],
)
def test_a_folder_that_cannot_be_written_is_named_and_costs_no_result(
    tiny: tuple[Path, Path], folder: str, changes: bool, repeated: list[str]
) -> None:
    root, home = tiny
    dvc(root, "repro")
    former = results(root)
    edit(root, *(("size: 4", "size: 5") if folder == "data" else ("epochs: 2", "epochs: 3")))
    with read_only(root / folder):
        assert f"Permission denied: '{root}/{folder}" in refused(root)
    if not changes:
        assert results(root) == former
    done = tiny_project.runs(home)
    assert done[3:] == repeated
    dvc(root, "repro")
    edit(root, *(("size: 5", "size: 4") if folder == "data" else ("epochs: 3", "epochs: 2")))
    count = len(tiny_project.runs(home))
    dvc(root, "repro")
    assert results(root) == former
    assert len(tiny_project.runs(home)) == count, "the former results come from the cache"
