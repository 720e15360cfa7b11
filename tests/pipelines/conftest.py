"""A copy of the project at smoke size, on which the whole pipeline has run once."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from smoke_project import SECRET_ADDRESS, SECRET_PASSWORD, Project, ask, copy_project, prefect_server

RESTORED = ("params.yaml", "dvc.lock", "data/raw", "data/processed", "results")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project after one whole run through Prefect, DVC and MLflow. Tests leave it as they found it.

    `flow_artifacts` holds what the Prefect server had to show afterwards: artifacts by key, and the task runs.
    """
    project = copy_project(tmp_path_factory.mktemp("finished"))
    with prefect_server(project, tmp_path_factory.mktemp("prefect")) as address:
        project.run(
            *("python", "-m", "pipelines", "train"),
            PREFECT_API_URL=address,
            # A proxy that does not answer: traffic to this machine must not take it, and its password is nowhere kept.
            HTTP_PROXY=SECRET_ADDRESS,
            HTTPS_PROXY=SECRET_ADDRESS,
            MLFLOW_TRACKING_PASSWORD=SECRET_PASSWORD,
        )
        artifacts = ask(f"{address}/artifacts/filter", {"limit": 100})
        tasks = ask(f"{address}/task_runs/filter", {"limit": 100})
    shown = {entry["key"]: entry["data"] for entry in artifacts}
    return Project(project.root, {"artifacts": shown, "tasks": {t["name"]: t["state_name"] for t in tasks}})


@pytest.fixture(scope="session")
def kept(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the finished run left, as hard links: put back in milliseconds, and DVC sees the very same files."""
    folder = finished.root.parent / "kept"
    link_tree(finished.root, folder)
    return folder


@pytest.fixture
def project(finished: Project, kept: Path) -> Iterator[Project]:
    """The finished project; params.yaml, dvc.lock, data and results are put back afterwards."""
    yield finished
    for name in RESTORED:
        path = finished.root / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
    link_tree(kept, finished.root)


def link_tree(source: Path, target: Path) -> None:
    """Hard links for folders of outputs, copies of files that tests write in place."""
    target.mkdir(exist_ok=True)
    for name in RESTORED:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, copy_function=os.link, dirs_exist_ok=True)
        else:
            shutil.copy2(source / name, target / name)
