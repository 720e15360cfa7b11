"""Embedding over several processes, against one process bit by bit."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from together import together

from msclnet.distributed import ALONE, Embed, embed_together, share_of
from msclnet.embedding import embed_images
from msclnet.models.build import build_network
from pipelines.stages.presets import preset_params

PARAMS = preset_params("smoke", Path(__file__).resolve().parents[1])
COUNT, HEIGHT, WIDTH = 23, 64, 32
IMAGES = np.random.default_rng(0).integers(0, 256, size=(COUNT, HEIGHT, WIDTH, 3), dtype=np.uint8)
INFRARED = np.random.default_rng(1).random(COUNT) < 0.4


@pytest.fixture(scope="module", autouse=True)
def embed() -> Iterator[Embed]:
    """Of a small network; on one thread, for the processes are forked."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    spec = {"identities": 4, "model": PARAMS.section("model"), "synergy": PARAMS.section("synergy")}
    yield partial(embed_images, build_network(spec), batch=4)
    torch.set_num_threads(before)


@pytest.mark.parametrize("world", [2, 3])
def test_features_are_those_of_one_process(tmp_path: Path, embed: Embed, world: int) -> None:
    expected = embed(IMAGES, INFRARED)
    found = together(world, tmp_path, lambda p: embed_together(embed, IMAGES, INFRARED, batch=4, processes=p))
    assert found[1:] == [None] * (world - 1)
    for ours, theirs in zip(found[0], expected, strict=True):
        assert ours.dtype == np.float32
        assert ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("count", [0, 3])
def test_fewer_batches_than_processes(tmp_path: Path, embed: Embed, count: int) -> None:
    few, infrared = IMAGES[:count], np.zeros(count, dtype=bool)
    expected = embed(few, infrared)
    found = together(2, tmp_path, lambda p: embed_together(embed, few, infrared, batch=4, processes=p))[0]
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))
    assert found[0].shape == expected[0].shape


def test_each_process_reads_its_own_images(tmp_path: Path) -> None:
    asked: list[int] = []

    class Watched:
        def __len__(self) -> int:
            return COUNT

        def __getitem__(self, rows: Any) -> np.ndarray:
            asked.extend(rows.tolist())
            return IMAGES[rows]

    def read(images: Any, infrared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        read = images[np.arange(len(images))].astype(np.float32).sum(axis=(1, 2))
        return read, np.repeat(infrared[:, None], 3, axis=1).astype(np.float32)

    def work(processes: Any) -> tuple[list[int], Any]:
        images: Any = Watched()
        return asked, embed_together(read, images, INFRARED, batch=4, processes=processes)

    first, second = together(2, tmp_path, work)
    assert sorted(first[0] + second[0]) == list(range(COUNT))
    np.testing.assert_array_equal(first[1][0], IMAGES.astype(np.float32).sum(axis=(1, 2)))
    np.testing.assert_array_equal(first[1][1][:, 0], INFRARED)


def test_one_process_embeds_everything(embed: Embed) -> None:
    alone = embed_together(embed, IMAGES, INFRARED, batch=4, processes=ALONE)
    assert alone is not None
    assert all(np.array_equal(a, b) for a, b in zip(alone, embed(IMAGES, INFRARED), strict=True))


def test_shares_by_hand() -> None:
    infrared = np.array([0, 1, 0, 0, 1, 0, 0, 1], dtype=bool)  # visible batches 02, 35, 6; infrared 14, 7
    shares = [share_of(infrared, batch=2, rank=rank, world=2).tolist() for rank in range(2)]
    assert shares == [[0, 2, 6, 7], [3, 5, 1, 4]]
    assert share_of(infrared, batch=8, rank=2, world=3).tolist() == []
