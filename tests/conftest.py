"""What holds for all tests: one thread each, and which tests share a worker of pytest-xdist."""

import os

# Before torch is imported: with two workers, each has one core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests share a worker, and so what its fixtures make; those of the finished project share one, too."""
    for item in items:
        finished = "finished" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("finished" if finished else item.path.name))
