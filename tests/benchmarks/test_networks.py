"""The benchmarks refuse to time a wrong result, and measure the pipeline's own operations."""

from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import networks
from benchmarks.input import cumulative
from benchmarks.networks import HEIGHT, WHOLE, WIDTH, agreement, check, our_embedders, preset
from benchmarks.timing import NO_BF16
from msclnet.errors import UserError
from msclnet.export.backends import BACKENDS, build_embedder
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


def test_the_last_step_of_the_input_is_the_whole_augmentation() -> None:
    augment = preset(WHOLE)["augment"]
    cut = cumulative(augment)
    assert [len(transform.transforms) for transform in cut.values()] == [2, 3, 4]
    whole, last = build_augmentation(augment, height=HEIGHT, width=WIDTH), list(cut.values())[-1]
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for transform in (whole, last):
        seed_steps(transform, 5)
    for _ in range(10):
        assert np.array_equal(whole(image=image)["image"], last(image=image)["image"])


@pytest.mark.parametrize("native", [True, False])
def test_back_ends_that_cannot_run_here_give_the_reason(
    monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    def build(network: MSCLNet, *, backend: Any, **settings: Any) -> Any:
        if backend == "openvino":
            raise UserError("a package is missing") from ImportError("openvino")
        return build_embedder(network, backend=backend, **settings)

    monkeypatch.setattr(networks, "build_embedder", build)
    monkeypatch.setattr(networks, "native_bf16", lambda _: native)
    found = list(our_embedders(cast(MSCLNet, nn.Identity()), device=torch.device("cpu")))
    reasons = {each.name: each.reason for each in found}
    assert len(reasons) == 2 * len(BACKENDS)
    for backend in BACKENDS:
        installed = "not installed" if backend == "openvino" else ""
        assert reasons[f"ours, {backend}, fp32"] == installed
        assert reasons[f"ours, {backend}, bf16"] == (installed if native else NO_BF16)
    assert all((each.embed is None) == bool(each.reason) for each in found)
