"""Ray on this machine with two workers, one of which dies."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from small_galleries import DESCRIPTION, MODEL, PATTERN, add, coarse_pixels, photos

from msclnet.gallery.adding import add_sources, compare
from msclnet.gallery.cluster import embed_on_ray
from msclnet.gallery.sources import folder_sources
from msclnet.gallery.store import Gallery
from msclnet.images.user_files import SearchModel


def rows(gallery: Gallery) -> list[dict]:
    found = [row for batch in gallery.batches(gallery.schema.names) for row in batch.to_pylist()]
    return sorted(found, key=lambda row: row["path"])


@pytest.mark.full_size
def test_a_cluster_makes_the_same_table_though_a_worker_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    photos(tmp_path / "images", 12)
    (tmp_path / "images" / "c0_20261101T000000_torn.png").write_text("no image")
    died = tmp_path / "died"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=80 * 2**20)
    request.addfinalizer(ray.shutdown)

    def embed(images: np.ndarray, infrared: np.ndarray) -> np.ndarray:
        if not died.exists():
            died.touch()
            os.kill(os.getpid(), 9)
        return coarse_pixels(images, infrared)

    gallery = Gallery.create(tmp_path / "cluster", DESCRIPTION)
    sources = folder_sources(tmp_path / "images", pattern=PATTERN)
    added = add_sources(
        gallery,
        sources,
        compare(gallery, sources),
        lambda images: embed_on_ray(
            images, lambda: SearchModel(embed, MODEL.height, MODEL.width, {}), gallery.schema, batch=3
        ),
    )
    assert died.exists()
    assert (added.added, [each.path.name for each in added.refused]) == (12, ["c0_20261101T000000_torn.png"])
    alone = Gallery.create(tmp_path / "alone", DESCRIPTION)
    add(alone, tmp_path / "images")
    assert rows(gallery) == rows(alone)
