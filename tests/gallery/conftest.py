"""A model that finds rendered people, and a gallery of them."""

from pathlib import Path

import pytest
from rendered_people import make_gallery, write_model

from msclnet.gallery.store import Gallery


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "train")


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Gallery:
    return make_gallery(tmp_path_factory.mktemp("galleries") / "yard", model)
