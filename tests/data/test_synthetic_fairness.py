"""The rendered data set is hard and fair: colour helps among visible cameras and is worth nothing across modalities.

Axes: Q query images, G gallery images, B bins.
"""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from msclnet.data.synthetic.camera import INFRARED_CAMERAS, VISIBLE_CAMERAS
from msclnet.data.synthetic.render import render_person

SEED = 20
IDENTITIES = 100
IMAGES = 2
STRIPS = 6
BINS = 8


def histogram(picture: np.ndarray) -> np.ndarray:
    """A colour histogram of each of six horizontal strips, 8 x 8 x 8 bins of red, green, blue."""
    codes = (picture // (256 // BINS)).astype(np.int64)
    codes = (codes[..., 0] * BINS + codes[..., 1]) * BINS + codes[..., 2]
    strips = [
        np.bincount(strip.ravel(), minlength=BINS**3) / strip.size for strip in np.array_split(codes, STRIPS)
    ]
    return np.concatenate(strips).astype(np.float32)


@pytest.fixture(scope="module")
def described() -> dict[int, np.ndarray]:
    """Histograms by camera, (IDENTITIES, IMAGES, B)."""
    return {
        camera: np.stack(
            [
                [
                    histogram(render_person(seed=SEED, identity=identity, camera=camera, image=image))
                    for image in range(IMAGES)
                ]
                for identity in range(1, IDENTITIES + 1)
            ]
        )
        for camera in VISIBLE_CAMERAS + INFRARED_CAMERAS
    }


def rank_one(described: dict[int, np.ndarray], query_cameras: tuple[int, ...]) -> tuple[float, float]:
    """Rank-1 against the visible cameras other than the query's, and what a random ranker would reach.

    The gallery holds one image of each identity and camera, once for each image number.
    """
    hits, chances = [], []
    for query_camera in query_cameras:
        gallery_cameras = [camera for camera in VISIBLE_CAMERAS if camera != query_camera]
        query_QB = described[query_camera].reshape(IDENTITIES * IMAGES, -1)
        identities_Q = np.repeat(np.arange(IDENTITIES), IMAGES)
        for image in range(IMAGES):
            gallery_GB = np.concatenate([described[camera][:, image] for camera in gallery_cameras])
            identities_G = np.tile(np.arange(IDENTITIES), len(gallery_cameras))
            distances_QG = cdist(query_QB, gallery_GB, "cityblock")
            matches_QG = identities_Q[:, None] == identities_G[None]
            hits.append(matches_QG[np.arange(len(query_QB)), distances_QG.argmin(axis=1)])
            chances.append(matches_QG.mean(axis=1))
    return float(np.concatenate(hits).mean()), float(np.concatenate(chances).mean())


def test_colour_helps_among_visible_cameras(described: dict[int, np.ndarray]) -> None:
    rank, chance = rank_one(described, VISIBLE_CAMERAS)
    assert chance == pytest.approx(1 / IDENTITIES)
    assert rank >= 5 * chance


def test_colour_is_useless_across_modalities(described: dict[int, np.ndarray]) -> None:
    rank, chance = rank_one(described, INFRARED_CAMERAS)
    assert chance == pytest.approx(1 / IDENTITIES)
    assert rank <= 1.5 * chance
