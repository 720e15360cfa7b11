"""A copy of the project at smoke size, on which the whole pipeline has run once."""

from collections.abc import Iterator

import pytest
from smoke_project import SECRET_ADDRESS, SECRET_PASSWORD, Project, ask, copy_project, prefect_server


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project after one whole run through Prefect, DVC and MLflow. Tests leave it as they found it.

    `flow_artifacts` holds what the Prefect server had to show afterwards: artifacts by key, and the task runs.
    """
    project = copy_project(tmp_path_factory.mktemp("finished"))
    with prefect_server(project, tmp_path_factory.mktemp("prefect")) as address:
        project.run(
            *("python", "-m", "pipelines.flows", "train"),
            PREFECT_API_URL=address,
            MSCLNET_RAW=SECRET_ADDRESS,
            MLFLOW_TRACKING_PASSWORD=SECRET_PASSWORD,
        )
        artifacts = ask(f"{address}/artifacts/filter", {"limit": 100})
        tasks = ask(f"{address}/task_runs/filter", {"limit": 100})
    shown = {entry["key"]: entry["data"] for entry in artifacts}
    return Project(project.root, {"artifacts": shown, "tasks": {t["name"]: t["state_name"] for t in tasks}})


@pytest.fixture
def project(finished: Project) -> Iterator[Project]:
    """The finished project; params.yaml and results are put back afterwards."""
    before = (finished.root / "params.yaml").read_bytes()
    lock = (finished.root / "dvc.lock").read_bytes()
    yield finished
    (finished.root / "params.yaml").write_bytes(before)
    (finished.root / "dvc.lock").write_bytes(lock)
    finished.run("dvc", "checkout", "--force", "--quiet")
