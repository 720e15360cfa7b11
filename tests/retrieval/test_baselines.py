"""The random ranker against closed forms, and colour histograms against a loop over the pixels."""

import numpy as np
import pytest

from msclnet.retrieval.baselines import colour_histograms, random_features
from msclnet.retrieval.evaluation import evaluate
from msclnet.retrieval.protocols import Images, regdb_protocol


def test_a_random_ranker_scores_what_chance_is():
    identities, shots = 60, 5
    identity = np.repeat(np.arange(identities), 2 * shots)
    infrared = np.tile(np.repeat([False, True], shots), identities)
    paths = [str(i) for i in range(len(identity))]
    images = Images.of(
        {"identities": identity, "cameras": infrared + 1, "infrared": infrared, "paths": paths}
    )
    protocol = regdb_protocol(images, direction="infrared-to-visible")
    reports = [
        evaluate(random_features(len(images), seed=seed), images, protocol, feature="random")
        for seed in range(40)
    ]
    # closed forms for r relevant images among n in random order
    n, r = identities * shots, shots
    harmonic = sum(1 / k for k in range(1, n + 1))
    mean_precision = ((r - 1) / (n - 1) * (n - harmonic) + harmonic) / n
    miss_ten = np.prod([(n - r - k) / (n - k) for k in range(10)])
    for name, expected in (("rank1", r / n), ("rank10", 1 - miss_ten), ("mAP", mean_precision)):
        values = [report[name]["mean"] for report in reports]
        assert abs(np.mean(values) - expected) < 4 * np.std(values, ddof=1) / np.sqrt(len(values))
        assert np.mean(values) == pytest.approx(expected, rel=0.1)


def test_random_features_depend_on_the_seed_alone():
    np.testing.assert_array_equal(random_features(5, seed=3), random_features(5, seed=3))
    assert (random_features(5, seed=3) != random_features(5, seed=4)).all()


@pytest.mark.parametrize(("strips", "bins", "step"), [(1, 4, 1), (3, 16, 2), (6, 7, 3), (5, 32, 1)])
def test_histograms_equal_a_loop_over_the_pixels(strips, bins, step):
    images = np.random.default_rng(0).integers(0, 256, (3, 18, 10, 3), np.uint8)
    result = colour_histograms(images, strips=strips, bins=bins, step=step)
    assert result.shape == (3, strips * bins**3)
    assert result.dtype == np.float32
    rows = list(range(0, 18, step))
    for image, histogram in zip(images, result, strict=True):
        counts = np.zeros((strips, bins, bins, bins))
        for place, h in enumerate(rows):
            for w in range(0, 10, step):
                red, green, blue = (int(value) * bins // 256 for value in image[h, w])
                counts[place * strips // len(rows), red, green, blue] += 1
        np.testing.assert_allclose(histogram, np.sqrt(counts / counts.sum()).reshape(-1), rtol=1e-6)
        assert np.linalg.norm(histogram) == pytest.approx(1, abs=1e-5)


def test_histograms_of_a_memory_map_and_of_many_images(tmp_path):
    images = np.random.default_rng(1).integers(0, 256, (130, 12, 6, 3), np.uint8)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    whole = colour_histograms(mapped)
    np.testing.assert_array_equal(whole, colour_histograms(images))
    np.testing.assert_array_equal(whole[129], colour_histograms(images[129:])[0])
