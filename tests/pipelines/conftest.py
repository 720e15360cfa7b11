"""A copy of the project at smoke size, on which the whole pipeline has run once."""

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from smoke_project import SECRETS, Project, copy_project, prefect_server

RESTORED = ("params.yaml", "dvc.lock", "data/raw", "data/processed", "results")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Project:
    """The project after one `dvc repro`. Tests leave it as they found it."""
    project = copy_project(tmp_path_factory.mktemp("finished"), empty_database)
    project.run("dvc", "repro", **SECRETS)  # pyright: ignore[reportArgumentType]
    return project


@pytest.fixture(scope="session")
def prefect_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Place of the tables that the first Prefect server makes for all workers."""
    shared = tmp_path_factory.getbasetemp()
    return (shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) / "prefect-tables.db"


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory, prefect_database: Path) -> Iterator[str]:
    """Address of the session's Prefect server."""
    # A process that is forked from this one later has none of Prefect's threads, and fails at its end to wait for them.
    os.register_at_fork(after_in_child=threading._threading_atexits.clear)  # pyright: ignore
    folder = tmp_path_factory.mktemp("prefect")
    with prefect_server(Project(folder), folder, prefect_database) as address:
        yield address


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
