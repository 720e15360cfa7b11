"""A grid shared out to two workers of one Prefect pool, over one DVC cache, as docs/experiments.md tells."""

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import tiny_grid
from test_up import ENTRY, PREFECT_YAML, post
from tiny_project import wait_for

from pipelines.orchestration.stage_process import end_group

ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


class Pool:
    """The deployments in a Prefect server, and two workers that each take one flow run at a time."""

    def __init__(self, api: str, root: Path, home: Path, down: ExitStack) -> None:
        (root / "tiny_flows.py").write_text(ENTRY)
        (root / "prefect.yaml").write_text(
            re.sub(r"pipelines/\w+\.py", "tiny_flows.py", PREFECT_YAML.read_text())
        )
        self.api = api
        self.environment = {
            **os.environ,
            "PREFECT_HOME": str(home / "prefect"),
            "PREFECT_API_URL": self.api,
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PWD": str(root),
        }

        def start(name: str, *arguments: str) -> None:
            with (home / f"{name}.log").open("wb") as output:
                process = subprocess.Popen(
                    [sys.executable, "-m", "prefect", *arguments],
                    cwd=root,
                    env=self.environment,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            down.callback(end_group, process, grace=10.0)

        self.prefect(root, "work-pool", "create", "local", "--type", "process")
        self.prefect(root, "--no-prompt", "deploy", "--name", "ablation")
        for name in ("one", "two"):
            start(name, "worker", "start", "--pool", "local", "--name", name, "--limit", "1")

    def prefect(self, root: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "prefect", *arguments]
        subprocess.run(command, cwd=root, env=self.environment, check=True, capture_output=True, timeout=900)

    def run(self, **parameters: Any) -> Callable[[], dict[str, Any]]:
        """Schedule the grid's flow; returns a function that asks how it stands."""
        name = f"{self.api}/deployments/name/ablation/ablation"
        deployment = json.loads(urllib.request.urlopen(name, timeout=300).read())["id"]
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        run = post(f"{self.api}/deployments/{deployment}/create_flow_run", body)["id"]
        return lambda: json.loads(urllib.request.urlopen(f"{self.api}/flow_runs/{run}", timeout=300).read())


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    root, home = tiny_grid.setup(tmp_path, monkeypatch, processes=True)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    command = [sys.executable, "-m", "dvc", "cache", "dir", "--local", str(tmp_path / "shared-cache")]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    return root, home


@pytest.fixture
def pool(project: tuple[Path, Path], prefect_api: str) -> Iterator[Pool]:
    with ExitStack() as down:
        yield Pool(prefect_api, *project, down)


@pytest.mark.pipeline
@pytest.mark.full_size
def test_two_workers_share_a_grid_out(project: tuple[Path, Path], pool: Pool, tmp_path: Path) -> None:
    root, home = project
    # Each training waits until the other one, which only the other worker can run, has begun as well.
    meeting = {"train.meet": [0, 3]}
    runs = [
        pool.run(seeds=[1], rows=["B"], overrides=meeting, name="shared"),
        pool.run(seeds=[1], rows=["three"], overrides=meeting, name="shared"),
    ]
    wait_for(lambda: all(run()["state_type"] in ENDED for run in runs), what="both halves", every=0.5)
    assert [run()["state_type"] for run in runs] == ["COMPLETED", "COMPLETED"]
    assert sorted(tiny_grid.trained(home)) == ["0 1", "3 1"]
    assert list((tmp_path / "shared-cache").rglob("*"))

    # The whole grid afterwards: both halves are there already, and nothing is trained.
    whole = pool.run(seeds=[1], rows=["B", "three"], overrides=meeting, name="shared")
    wait_for(lambda: whole()["state_type"] in ENDED, what="the whole", every=0.5)
    assert whole()["state_type"] == "COMPLETED"
    assert len(tiny_grid.trained(home)) == 2
    assert tiny_grid.record(root, "shared", "three", 1)["seed"] == 1
