"""The default data set is hard and fair: colour helps among visible cameras and is worth nothing across modalities.

Axes: Q query images, G gallery images, B bins.
"""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from msclnet.datasets.records import SPLITS
from msclnet.retrieval.baselines import random_features
from msclnet.retrieval.evaluation import evaluate
from msclnet.retrieval.protocols import Images, sysu_mm01_protocol
from msclnet.synthetic.camera import INFRARED_CAMERAS, VISIBLE_CAMERAS
from msclnet.synthetic.layout import ImageCounts, plan
from msclnet.synthetic.render import render_person
from pipelines.stages.config import load_params

SYNTHETIC = load_params(Path(__file__).resolve().parents[2] / "presets" / "synthetic.yaml").download.synthetic
SEED = SYNTHETIC.seed
PLAN = plan(
    seed=SEED,
    identities={split: getattr(SYNTHETIC.identities, split) for split in SPLITS},
    images=ImageCounts(**SYNTHETIC.images_per_camera.model_dump()),
)
TESTED = [appearance for appearance in PLAN if appearance.split == "test"]
# People and images of each by a camera; the default's 100 are the case that is marked full_size.
SIZES = [(30, 1), pytest.param((len(TESTED), 2), marks=pytest.mark.full_size)]
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


@pytest.fixture(scope="module", params=SIZES)
def described(request: pytest.FixtureRequest) -> dict[int, np.ndarray]:
    """Histograms of test identities by camera, (people, images, B)."""
    people, images = request.param
    return {
        camera: np.stack(
            [
                [
                    histogram(render_person(seed=SEED, identity=person.identity, camera=camera, image=image))
                    for image in range(images)
                ]
                for person in TESTED[:people]
            ]
        )
        for camera in VISIBLE_CAMERAS + INFRARED_CAMERAS
    }


def rank_one(described: dict[int, np.ndarray], query_cameras: tuple[int, ...]) -> tuple[float, float]:
    """Rank-1 against the visible cameras other than the query's, and what a random ranker would reach.

    The gallery holds one image of each identity and camera, once for each image number.
    """
    hits, chances = [], []
    people, images, _ = described[query_cameras[0]].shape
    for query_camera in query_cameras:
        gallery_cameras = [camera for camera in VISIBLE_CAMERAS if camera != query_camera]
        query_QB = described[query_camera].reshape(people * images, -1)
        identities_Q = np.repeat(np.arange(people), images)
        for image in range(images):
            gallery_GB = np.concatenate([described[camera][:, image] for camera in gallery_cameras])
            identities_G = np.tile(np.arange(people), len(gallery_cameras))
            distances_QG = cdist(query_QB, gallery_GB, "cityblock")
            matches_QG = identities_Q[:, None] == identities_G[None]
            hits.append(matches_QG[np.arange(len(query_QB)), distances_QG.argmin(axis=1)])
            chances.append(matches_QG.mean(axis=1))
    return float(np.concatenate(hits).mean()), float(np.concatenate(chances).mean())


def test_colour_helps_among_visible_cameras(described: dict[int, np.ndarray]) -> None:
    rank, chance = rank_one(described, VISIBLE_CAMERAS)
    assert chance == pytest.approx(1 / len(described[1]))
    assert rank >= 5 * chance


def test_colour_is_useless_across_modalities(described: dict[int, np.ndarray]) -> None:
    rank, chance = rank_one(described, INFRARED_CAMERAS)
    assert chance == pytest.approx(1 / len(described[1]))
    assert rank <= 1.5 * chance


def test_a_random_ranker_scores_at_chance() -> None:
    """By the default's own protocol, against the exact expectation of each query: its matches' share of its list."""
    seen = [
        (
            person.identity,
            camera,
            camera in INFRARED_CAMERAS,
            f"cam{camera}/{person.identity:04d}/{image:04d}.jpg",
        )
        for person in TESTED
        for camera, count in sorted(person.counts.items())
        for image in range(1, count + 1)
    ]
    images = Images(*(np.array(column) for column in zip(*seen, strict=True)))
    protocol = sysu_mm01_protocol(images, mode="all", shots=1, sampler="agw")
    expected = []
    for gallery in protocol.galleries:
        for query in protocol.queries:
            room = (images.cameras[query] == 3) & (images.cameras[gallery] == 2)
            matches = (images.identities[gallery] == images.identities[query])[~room]
            if matches.any():
                expected.append(matches.mean())
    scores = [
        evaluate(random_features(len(images), seed=seed), images, protocol, feature="random")["rank1"]["mean"]
        for seed in range(12)
    ]
    spread = np.std(scores, ddof=1) / np.sqrt(len(scores))
    assert abs(np.mean(scores) - np.mean(expected)) < 4 * spread
    assert spread < 0.1 * np.mean(expected)
