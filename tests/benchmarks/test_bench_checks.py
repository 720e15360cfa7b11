"""The benchmarks refuse to time what is wrong, and measure the pipeline's own operations."""

import importlib
import os
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import psutil
import pytest
import torch
from torch import nn

from benchmarks.core.agreement import agreement, check
from benchmarks.core.elsewhere import Elsewhere
from benchmarks.core.embedders import BACKENDS, our_embedders
from benchmarks.core.memory import GIB, lacking, peak_bytes
from benchmarks.core.presets import HEIGHT, WHOLE, WIDTH, preset
from benchmarks.sections import input as input_section
from msclnet.images.augmentation import build_augmentation, seed_steps
from msclnet.models.network import MSCLNet


def test_agreement_is_the_lowest_cosine_of_what_tells_images_apart() -> None:
    rng = np.random.default_rng(0)
    same = rng.standard_normal((6, 20))
    assert agreement(same, same * 3 + 100) == pytest.approx(1)
    other = same.copy()
    other[2] = rng.standard_normal(20)
    low = agreement(same + 1000, other + 1000)  # plain cosines would all be above 0.999
    assert low < 0.7
    with pytest.raises(AssertionError, match=r"wrong: features agree to 0\.\d+ only"):
        check("wrong", "bf16", same, other)
    with pytest.raises(AssertionError):
        check("broken", "bf16", same, np.full_like(same, np.nan))


def test_memory_is_counted_and_too_much_is_not_tried() -> None:
    assert 8_000_000 <= peak_bytes(lambda: np.ones(1_000_000)) <= 8_100_000
    assert lacking(1) == ""
    assert lacking(1e6 * GIB).startswith("not run: needs 1000000 GiB")


def test_the_last_step_of_the_input_is_the_whole_augmentation() -> None:
    augment = preset(WHOLE)["augment"]
    cut = input_section.cumulative(augment)
    assert [len(transform.transforms) for transform in cut.values()] == [2, 3, 4]
    whole, last = build_augmentation(augment, height=HEIGHT, width=WIDTH), list(cut.values())[-1]
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for transform in (whole, last):
        seed_steps(transform, 5)
    for _ in range(10):
        assert np.array_equal(whole(image=image)["image"], last(image=image)["image"])


def test_back_ends_that_cannot_be_imported_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    found = list(our_embedders(cast(MSCLNet, nn.Identity()), device=torch.device("cpu")))
    assert [(each.name, each.reason) for each in found if each.embed is None] == [
        (f"ours, {backend}, {precision}", "not installed")
        for backend in BACKENDS[1:]
        for precision in ("fp32", "bf16")
    ]
    assert [each.name for each in found if each.embed is not None] == [
        "ours, torch, fp32",
        "ours, torch, bf16",
    ]


def counting(*, device: torch.device, start: int) -> Callable[[], list[int]]:
    """Of the process elsewhere: its number, how often it was called, and its threads."""
    calls = iter(range(start, 10**9))
    return lambda: [os.getpid(), next(calls), torch.get_num_threads()]


def failing(*, device: torch.device) -> Callable[[], object]:
    return lambda: os._exit(3)


def test_a_function_elsewhere_keeps_its_process_and_its_state() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with Elsewhere(counting, device=torch.device("cpu"), start=5) as function:
            first, second = function(), function()
    finally:
        torch.set_num_threads(before)
    assert first[0] == second[0] != os.getpid()
    assert (first[1], second[1]) == (5, 6)
    assert first[2] == 2
    assert not psutil.pid_exists(first[0])


def test_a_process_elsewhere_that_ends_is_told() -> None:
    with (
        Elsewhere(failing, device=torch.device("cpu")) as function,
        pytest.raises(RuntimeError, match="ended with 3"),
    ):
        function()
