"""Restoring a run: its commit, uncommitted parameters, data and results, and what cannot be brought back."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tiny_project as tiny
from dvc.config import Config
from dvc.repo import Repo
from safetensors.numpy import save_file

from msclnet.errors import UserError
from msclnet.tracking.run import Tracker
from msclnet.tracking.run_setup import DatasetInfo
from pipelines.orchestration.workspace import cache_folder
from pipelines.release.restore import SAME, difference, restore
from pipelines.stages.lineage import lineage_tags, log_lineage

# The share of queries depends on a file that no stage names: a planted difference.
EVALUATE = tiny.EVALUATE.replace(
    "epochs = int(", "noise = float((home / 'noise').read_text())\nepochs = noise + int("
)


@dataclass
class Made:
    """A project of three stages with two runs; the files are those of the second one."""

    root: Path
    home: Path
    first: str
    second: str


def run(root: Path, epochs: int) -> str:
    """Run the stages and log as their last one does; returns the MLflow run's id."""
    params = root / "params.yaml"
    params.write_text(tiny.PARAMS.replace("epochs: 2", f"epochs: {epochs}"))
    with chdir(root):
        with Repo() as repo:
            repo.reproduce()  # pyright: ignore[reportCallIssue]
        data = DatasetInfo(name="tiny", digest="0", counts={})
        start = {"experiment": "tiny", "run_name": f"{epochs} epochs", "params": {}, "dataset": data}
        tracker = Tracker.start(home=root, tags=lineage_tags(), system_metrics=False, **start)
        with tracker.lifetime():
            log_lineage(tracker)
            tracker.log_artifact(Path("results/metrics/metrics.json"), "evaluate")
    assert tracker.delivered
    return tracker.run_id


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Made]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        root, home = tiny.setup(tmp_path_factory.mktemp("restore"), patch)
        patch.setenv("MSCLNET_HOME", str(root))
        (home / "noise").write_text("0")
        (root / "mlruns").mkdir()
        shutil.copy(empty_database, root / "mlruns" / "mlflow.db")
        (root / "evaluate.py").write_text(EVALUATE)
        (root / ".gitignore").write_text(tiny.FILES[".gitignore"] + "/restored/\n")
        tiny.git(root, "commit", "--quiet", "--all", "--message=noise")
        with Config(dvc_dir=str(root / ".dvc")).edit("local") as config:
            config.update({"remote": {"store": {"url": str(home / "remote")}}, "core": {"remote": "store"}})  # pyright: ignore
        first = run(root, 3)
        patch.setenv("MSCLNET_EXPERIMENT", "four")  # as runs in isolated clones have it
        yield Made(root, home, first, run(root, 4))


@pytest.fixture
def lost(made: Made) -> Iterator[Callable[[str], str]]:
    """Takes the first run's file of a text out of the cache for the length of a test; returns its digest."""
    moved: list[tuple[Path, Path]] = []

    def lose(text: str) -> str:
        cache = cache_folder(made.root) / "files" / "md5"
        file = next(f for f in cache.rglob("*") if f.is_file() and f.read_bytes() == text.encode())
        moved.append((file, made.home / "kept"))
        shutil.move(file, made.home / "kept")
        return file.parent.name + file.name

    yield lose
    for file, kept in moved:
        file.unlink(missing_ok=True)
        shutil.move(kept, file)


def test_code_uncommitted_params_and_results_come_back_and_the_project_stays(made: Made) -> None:
    before = tiny.git(made.root, "status", "--porcelain"), (made.root / "dvc.lock").read_bytes()
    assert restore(made.root, made.first)
    folder = made.root / "restored" / made.first[:8]
    assert "epochs: 3" in (folder / "params.yaml").read_text()
    assert (folder / "results/model/weights.txt").read_text() == "3"
    assert json.loads((folder / "results/metrics/metrics.json").read_text())["all"]["single"]["rank-1"] == 0.3
    with chdir(folder), Repo(str(folder)) as repo:
        assert repo.status() == {}
    assert (made.root / "results/model/weights.txt").read_text() == "4"
    assert (tiny.git(made.root, "status", "--porcelain"), (made.root / "dvc.lock").read_bytes()) == before
    with pytest.raises(UserError, match=f"{folder}.*--into"):
        restore(made.root, made.first)


def test_a_stage_that_ended_after_the_log_comes_from_the_run_cache(made: Made, tmp_path: Path) -> None:
    lock = (made.root / "dvc.lock").read_text()
    with chdir(made.root):
        (made.root / "dvc.lock").write_text(lock[: lock.index("  evaluate:")])
        tracker = Tracker.attach(made.second, home=made.root)
        log_lineage(tracker)
        tracker.finish("FINISHED")
        (made.root / "dvc.lock").write_text(lock)
    assert restore(made.root, "four", into=tmp_path / "again")
    assert (tmp_path / "again/results/figures/cmc.png").is_file()
    with chdir(tmp_path / "again"), Repo(".") as repo:
        assert repo.status() == {}


def test_what_the_cache_lacks_is_named_and_a_remote_has_it(
    made: Made, lost: Callable[[str], str], tmp_path: Path
) -> None:
    digest = lost("3")
    with pytest.raises(UserError, match=r"results/model/weights\.txt"):
        restore(made.root, made.first, into=tmp_path / "without")
    stored = made.home / "remote" / "files" / "md5" / digest[:2] / digest[2:]
    stored.parent.mkdir(parents=True)
    shutil.copy(made.home / "kept", stored)
    assert restore(made.root, made.first, into=tmp_path / "with")
    assert (tmp_path / "with/results/model/weights.txt").read_text() == "3"


def test_verifying_runs_again_and_tells_what_differs(made: Made, tmp_path: Path) -> None:
    lines: list[str] = []
    arguments = {"verify": True, "first_stage": "evaluate", "log": lines.append}
    assert restore(made.root, made.first, into=tmp_path / "same", **arguments)
    assert tiny.runs(made.home)[-1] == "evaluate"
    assert f"evaluate    {SAME}" in lines
    (made.home / "noise").write_text("1")
    assert not restore(made.root, made.first, into=tmp_path / "other", **arguments)
    assert any("all.single.rank-1 0.3 -> 0.4" in line for line in lines)


def test_a_run_that_is_not_there_and_a_commit_that_is_gone(made: Made, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{'0' * 32}.*no run"):
        restore(made.root, "0" * 32)
    with pytest.raises(UserError, match=r"no-such-name.*no run"):
        restore(made.root, "no-such-name")
    tracker = Tracker.attach(made.first, home=made.root)
    tracker.server.client.set_tag(made.first, "git_commit", "1" * 40)
    with pytest.raises(UserError, match=f"{'1' * 40}.*fetch"):
        restore(made.root, made.first, into=tmp_path / "gone")
    assert not (tmp_path / "gone").exists()


def test_differences_are_measured(tmp_path: Path) -> None:
    before, after = tmp_path / "a", tmp_path / "b"
    before.mkdir()
    after.mkdir()
    weights = {"w": np.array([1.0, 2.0], np.float32)}
    save_file(weights, before / "m.safetensors")
    save_file({"w": weights["w"] + np.float32(0.25)}, after / "m.safetensors")
    assert "0.25" in difference(before / "m.safetensors", after / "m.safetensors")
    assert difference(before / "m.safetensors", before / "m.safetensors") == SAME
    np.savez(before / "e.npz", bnneck=np.array([[1.0, 0.0], [0.0, 1.0]]))
    np.savez(after / "e.npz", bnneck=np.array([[3.0, 4.0], [0.0, 2.0]]))
    assert "0.600000" in difference(before / "e.npz", after / "e.npz")
    (after / "metrics.json").write_text('{"all": {"mAP": 2.5, "rank1": 1}}')
    assert difference(b'{"all": {"mAP": 2.0, "rank1": 1}}', after / "metrics.json") == "all.mAP 2.0 -> 2.5"
