"""What holds for all tests: one thread each, and which tests share a worker of pytest-xdist."""

import os

# Before torch is imported: with two workers, each has one core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest
from filelock import FileLock


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow creates its tables in seconds: once is enough for the tests of all workers."""
    from msclnet.tracking.server import connect

    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    home = shared / "empty"
    with FileLock(shared / "empty.lock"), pytest.MonkeyPatch.context() as patch:
        if not home.exists():
            patch.delenv("MLFLOW_TRACKING_URI", raising=False)
            connect(home).client._tracking_client.store.engine.dispose()  # pyright: ignore
    return home / "mlruns" / "mlflow.db"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests share a worker, and so what its fixtures make; those of the session's project and server, too."""
    for item in items:
        shared = {"finished", "prefect_api"} & {*getattr(item, "fixturenames", ())}
        item.add_marker(pytest.mark.xdist_group("finished" if shared else item.path.name))
