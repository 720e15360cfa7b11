"""What holds for all tests: one thread each, which tests share a worker of pytest-xdist, and in which order."""

import os

# Before torch is imported: with two workers, each has one core, and a thread that waits must not keep it busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

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


# What exports a network shares the graphs of tests/export/small_networks.py and translated.py.
EXPORTED = ("test_backends.py", "test_export.py", "test_onnx.py", "test_openvino.py", "test_release.py")
# First those that fork, which torch's autograd refuses once it has threads. Then the groups that take longest, so that
# both workers end at about the same time.
FIRST = (
    "test_distributed.py",
    "test_resume.py",
    "test_checkpoint.py",
    "finished",
    "test_up.py",
    "exported",
    "test_grids.py",
    "test_real_data_sets.py",
    "test_own_data.py",
)


def pytest_configure(config: pytest.Config) -> None:
    config.option.loadscopereorder = False  # pytest-xdist would begin with the largest number of tests


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist, which writes the groups into the tests' names
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests share a worker, and so what its fixtures make; those of the session's project and server, too."""
    groups: dict[pytest.Item, str] = {}
    for item in items:
        shared = {"finished", "prefect_api"} & {*getattr(item, "fixturenames", ())}
        name = item.path.name
        groups[item] = "finished" if shared else "exported" if name in EXPORTED else name
        item.add_marker(pytest.mark.xdist_group(groups[item]))
    items.sort(key=lambda item: FIRST.index(groups[item]) if groups[item] in FIRST else len(FIRST))
