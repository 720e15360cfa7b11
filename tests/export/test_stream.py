"""One stream with folded batch norms, against the network that it was made from."""

import copy

import numpy as np
import pytest
import torch
from small_networks import IMAGES, STREAMS, assert_same, expected, network
from torch import nn

from msclnet.export.stream import OneStream
from msclnet.models.non_local import NonLocalBlock


def run(stream: OneStream, images: np.ndarray = IMAGES) -> tuple[np.ndarray, np.ndarray]:
    with torch.inference_mode():
        pooled, bnneck = stream(torch.from_numpy(images))
    return pooled.numpy(), bnneck.numpy()


@pytest.mark.parametrize(("name", "infrared"), STREAMS)
def test_folding_changes_nothing_but_rounding(name: str, infrared: bool) -> None:
    stream = OneStream(network(name), infrared=infrared)
    assert_same(run(stream), expected(name, infrared))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in stream.modules())


def test_the_networks_tell_whether_a_part_is_left_out() -> None:
    """Guards the others: the streams differ, and so do features with and without non-local blocks and batch norms."""
    whole = expected("separate", False)[0]
    assert np.abs(whole - expected("separate", True)[0]).max() > 0.01 * np.abs(whole).max()
    for kind in (NonLocalBlock, nn.BatchNorm2d):
        changed = copy.deepcopy(network("separate"))
        for module in changed.modules():
            if isinstance(module, kind):
                norm = module.norm if isinstance(module, NonLocalBlock) else module
                nn.init.zeros_(norm.bias)
        with torch.inference_mode():
            other = changed.embed(torch.from_numpy(IMAGES), infrared=False)[0].numpy()
        assert np.abs(whole - other).max() > 0.01 * np.abs(whole).max()


def test_the_network_stays_as_it_is_and_shares_no_weights() -> None:
    original = copy.deepcopy(network("slim")).train()
    before = {name: value.clone() for name, value in original.state_dict().items()}
    stream = OneStream(original, infrared=False)
    assert all(torch.equal(value, before[name]) for name, value in original.state_dict().items())
    assert all(module.training for module in original.modules())
    features = run(stream)
    with torch.no_grad():
        for parameter in original.parameters():
            parameter.zero_()
    assert all(np.array_equal(a, b) for a, b in zip(run(stream), features, strict=True))
    assert_same(features, expected("slim", False))


@pytest.mark.parametrize(("name", "infrared"), STREAMS)
def test_low_precision_is_near(name: str, infrared: bool) -> None:
    stream = OneStream(network(name), infrared=infrared, dtype=torch.bfloat16)
    for ours, theirs in zip(run(stream), expected(name, infrared), strict=True):
        assert ours.dtype == np.float32
        assert not np.array_equal(ours, theirs)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.05 * float(np.abs(theirs).max()))
