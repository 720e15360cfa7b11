import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for files of weights, removed at once: they are large and pytest keeps three runs."""
    yield tmp_path
    shutil.rmtree(tmp_path)
