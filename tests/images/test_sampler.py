"""The batches' make-up, counted."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from msclnet.errors import UserError
from msclnet.images.sampler import IdentitySampler, steps_per_epoch
from msclnet.images.table import Rows

VISIBLE, INFRARED = (1, 2, 4, 5), (3, 6)


def rows_of(counts: dict[tuple[int, int], int], *, seed: int = 0) -> Rows:
    """(identity, camera) -> number of images, in a shuffled order."""
    pairs = np.array([pair for pair, count in counts.items() for _ in range(count)]).reshape(-1, 2)
    pairs = np.random.default_rng(seed).permutation(pairs)
    return Rows(
        identities=pairs[:, 0].astype(np.int64),
        cameras=pairs[:, 1].astype(np.int64),
        infrared=np.isin(pairs[:, 1], INFRARED),
        paths=np.array([f"{i}.jpg" for i in range(len(pairs))]),
    )


# Identities 10 to 19 with 1 to 10 images by each camera; 7 has no infrared and 8 no visible image.
MANY = rows_of(
    {(10 + i, camera): 1 + i for i in range(10) for camera in (*VISIBLE, *INFRARED)} | {(7, 1): 5, (8, 3): 5}
)
GRID = [
    (p, k, sampling)
    for p in (1, 5, 10)
    for k in (1, 2, 8)
    for sampling in ("random", "replacement", "two_per_camera")
    if k % 2 == 0 or sampling != "two_per_camera"
]


def split_by_identity(rows: Rows, batch: np.ndarray) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for row in batch.tolist():
        found.setdefault(int(rows.identities[row]), []).append(row)
    return found


@pytest.mark.parametrize(("p", "k", "sampling"), GRID)
def test_counts(p: int, k: int, sampling: str) -> None:
    sampler = IdentitySampler(MANY, identities=p, images=k, seed=4, sampling=sampling)
    for step in range(20):
        visible, infrared = sampler.batch(step)
        assert len(visible) == len(infrared) == p * k
        assert not MANY.infrared[visible].any()
        assert MANY.infrared[infrared].all()
        labels = MANY.identities[visible]
        np.testing.assert_array_equal(labels, MANY.identities[infrared])
        assert Counter(labels.tolist()) == dict.fromkeys(set(labels.tolist()), k)
        assert len(set(labels.tolist())) == p
        assert (np.diff(labels) != 0).sum() == p - 1, "an identity's rows are neighbours"
        assert not {7, 8} & set(labels.tolist())


def test_sampling_with_replacement_draws_each_image_from_all_of_its_identitys() -> None:
    """By a naive loop over the same random stream, and by the share of batches without a repeated image."""
    sampler = IdentitySampler(MANY, identities=3, images=4, seed=5, sampling="replacement")
    whole = 0
    for step in range(400):
        rng = np.random.default_rng([5, step])
        expected: tuple[list[int], list[int]] = ([], [])
        for identity in rng.choice(np.arange(10, 20), size=3, replace=False):
            for infrared, drawn in enumerate(expected):
                owned = np.flatnonzero((MANY.identities == identity) & (MANY.infrared == bool(infrared)))
                owned = sorted(owned, key=lambda row: int(MANY.cameras[row]))
                drawn += [owned[rng.integers(len(owned))] for _ in range(4)]
                if infrared and len(owned) == 20:
                    whole += len(set(drawn[-4:])) == 4
        np.testing.assert_array_equal(sampler.batch(step), expected)
    # Identity 19 has 20 infrared images and is in 0.3 of the batches: 4 of 20 differ with 0.727.
    assert whole / (0.3 * 400) == pytest.approx(20 * 19 * 18 * 17 / 20**4, abs=0.15)


@pytest.mark.parametrize("k", [2, 4, 8, 12])
def test_random_sampling_repeats_only_where_it_must(k: int) -> None:
    sampler = IdentitySampler(MANY, identities=10, images=k, seed=1)
    repeated = 0
    for step in range(30):
        for batch in sampler.batch(step):
            for identity, drawn in split_by_identity(MANY, batch).items():
                owned = np.flatnonzero(
                    (MANY.identities == identity) & (MANY.infrared == MANY.infrared[drawn[0]])
                )
                assert set(drawn) <= set(owned.tolist())
                if len(owned) >= k:
                    assert len(set(drawn)) == k
                else:
                    repeated += 1
    assert bool(repeated) == (k > 2)  # identity 10 has two infrared images


@pytest.mark.parametrize("k", [2, 4, 8])
def test_two_per_camera_has_no_lonely_image(k: int) -> None:
    sampler = IdentitySampler(MANY, identities=10, images=k, seed=1, sampling="two_per_camera")
    for step in range(30):
        for batch, cameras in zip(sampler.batch(step), (VISIBLE, INFRARED), strict=True):
            for identity, drawn in split_by_identity(MANY, batch).items():
                count = Counter(MANY.cameras[drawn].tolist())
                assert min(count.values()) >= 2
                if len(cameras) >= k // 2:
                    assert count == dict.fromkeys(count, 2)
                    assert len(count) == k // 2
                    # Images repeat only where a camera has a single one: identity 10.
                    assert len(set(drawn)) == k or identity == 10


def test_two_per_camera_repeats_no_image_of_a_lone_camera_that_has_enough() -> None:
    rows = rows_of({(1, 1): 8, (1, 3): 8, (2, 2): 8, (2, 6): 8})
    sampler = IdentitySampler(rows, identities=2, images=8, seed=0, sampling="two_per_camera")
    drawn = [split_by_identity(rows, batch).values() for step in range(20) for batch in sampler.batch(step)]
    assert all(len(set(images)) == 8 for identities in drawn for images in identities)


def test_every_identity_and_image_has_the_same_chance() -> None:
    sampler = IdentitySampler(MANY, identities=2, images=2, seed=9)
    identities: Counter[int] = Counter()
    images: Counter[int] = Counter()
    for step in range(3000):
        visible, _ = sampler.batch(step)
        identities.update(set(MANY.identities[visible].tolist()))
        images.update(visible[MANY.identities[visible] == 12].tolist())
    assert len(identities) == 10
    assert all(abs(count - 600) < 5 * np.sqrt(3000 * 0.2 * 0.8) for count in identities.values())
    assert len(images) == 12  # identity 12 has 3 images by each of 4 cameras
    assert max(images.values()) < 1.6 * min(images.values())


def test_a_batch_depends_on_its_step_alone() -> None:
    forwards = IdentitySampler(MANY, identities=4, images=4, seed=3)
    backwards = IdentitySampler(MANY, identities=4, images=4, seed=3)
    expected = {step: forwards.batch(step) for step in range(10)}
    for step in reversed(range(10)):
        backwards.batch(1000 + step)
        for ours, theirs in zip(backwards.batch(step), expected[step], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    others = [IdentitySampler(MANY, identities=4, images=4, seed=s).batch(0) for s in range(4, 10)]
    assert len({batch[0].tobytes() for batch in (*expected.values(), *others)}) == 16


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("sampling", ["random", "two_per_camera"])
def test_shares_of_the_processes_make_up_the_whole(world: int, sampling: str) -> None:
    def sampler(rank: int, processes: int) -> IdentitySampler:
        return IdentitySampler(
            MANY, identities=8, images=4, seed=3, sampling=sampling, rank=rank, world=processes
        )

    for step in range(5):
        whole = sampler(0, 1).batch(step)
        shares = [sampler(rank, world).batch(step) for rank in range(world)]
        for modality in (0, 1):
            parts = [share[modality] for share in shares]
            assert [len(part) for part in parts] == [32 // world] * world
            np.testing.assert_array_equal(np.concatenate(parts), whole[modality])


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        (MANY, {"identities": 11}, "identities is 11, but only 10 training identities"),
        (rows_of({}), {"identities": 2}, "only 0 training identities"),
        (MANY, {"identities": 9, "world": 2}, "identities is 9, which 2 processes cannot share"),
    ],
)
def test_batches_that_cannot_be_made(rows: Rows, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        IdentitySampler(rows, images=2, seed=0, **options)


@pytest.mark.parametrize(
    ("visible", "infrared", "batch", "steps"),
    [
        (22_258, 11_909, 32, 696),  # SYSU-MM01
        (11_909, 22_258, 32, 696),
        (64, 10, 32, 2),
        (65, 10, 32, 3),
        (1, 1, 32, 1),
    ],
)
def test_steps_per_epoch(visible: int, infrared: int, batch: int, steps: int) -> None:
    nothing = np.zeros(visible + infrared, dtype=np.int64)
    rows = Rows(
        identities=nothing,
        cameras=nothing,
        infrared=np.arange(visible + infrared) >= visible,
        paths=nothing.astype(str),
    )
    assert steps_per_epoch(rows, batch=batch) == steps
