"""The non-local block against a loop over pairs of positions, and against torch's modules one after the other."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from msclnet.models.non_local import NonLocalBlock, normed_product


@pytest.mark.parametrize("inner", [1, 3, 8])
@pytest.mark.parametrize("training", [True, False])
def test_a_fresh_block_is_the_identity(inner, training):
    maps = torch.randn(3, 8, 5, 2, generator=torch.Generator().manual_seed(0)) * 10
    assert torch.equal(NonLocalBlock(8, inner).train(training)(maps), maps)


def randomised(channels: int, inner: int) -> NonLocalBlock:
    torch.manual_seed(1)
    block = NonLocalBlock(channels, inner).double().eval()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    assert block.norm.running_mean is not None
    assert block.norm.running_var is not None
    block.norm.running_mean.normal_()
    block.norm.running_var.uniform_(0.5, 2)
    return block


def numbers(module: torch.nn.Module, name: str) -> np.ndarray:
    return module.get_parameter(name).detach().numpy()


@pytest.mark.parametrize("inner", [1, 3])
def test_equals_a_loop_over_pairs_of_positions(inner):
    block = randomised(4, inner)
    maps = np.random.default_rng(0).standard_normal((2, 4, 3, 2))
    theta, phi, g = (
        (numbers(block, f"{name}.weight")[:, :, 0, 0], numbers(block, f"{name}.bias"))
        for name in ("theta", "phi", "g")
    )
    out, out_bias = numbers(block, "out.weight")[:, :, 0, 0], numbers(block, "out.bias")
    assert block.norm.running_mean is not None
    assert block.norm.running_var is not None
    mean, variance = block.norm.running_mean.numpy(), block.norm.running_var.numpy()
    expected = np.empty_like(maps)
    places = [(h, w) for h in range(3) for w in range(2)]
    for image, (h, w) in ((i, place) for i in range(2) for place in places):
        x = maps[image, :, h, w]
        attended = np.zeros(inner)
        for there in places:
            y = maps[image, :, there[0], there[1]]
            weight = (theta[0] @ x + theta[1]) @ (phi[0] @ y + phi[1]) / len(places)  # no softmax
            attended += weight * (g[0] @ y + g[1])
        z = out @ attended + out_bias
        z = (z - mean) / np.sqrt(variance + block.norm.eps)
        expected[image, :, h, w] = x + z * numbers(block, "norm.weight") + numbers(block, "norm.bias")
    with torch.no_grad():
        np.testing.assert_allclose(block(torch.tensor(maps)).numpy(), expected, atol=1e-10)


def test_every_position_sees_every_other_of_its_image_and_no_other_image():
    block = randomised(4, 2)
    maps = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    changed = maps.clone()
    changed[0, :, 2, 2] += 1
    with torch.no_grad():
        moved = (block(maps) - block(changed)).abs().amax(dim=1)
    assert (moved[0] > 0).all()
    assert (moved[1] == 0).all()


def test_no_inner_channels_are_refused():
    with pytest.raises(ValueError, match="inner_channels"):
        NonLocalBlock(8, 0)


@pytest.mark.parametrize("inner", [1, 3])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("frozen", [False, True])
def test_training_equals_torchs_modules_one_after_the_other(inner, memory_format, frozen):
    def modules(block: NonLocalBlock, maps: torch.Tensor) -> torch.Tensor:
        theta, phi, g = (part(maps).flatten(2) for part in (block.theta, block.phi, block.g))
        weights = theta.transpose(1, 2) @ phi / theta.shape[2]  # of all pairs of positions
        attended = (weights @ g.transpose(1, 2)).transpose(1, 2)
        return maps + block.norm(block.out(attended.unflatten(2, maps.shape[2:])))

    results = []
    for run in (modules, lambda block, maps: block(maps)):
        block = randomised(4, inner).train()
        block.norm.train(not frozen)
        maps = torch.randn(3, 4, 5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        maps = maps.contiguous(memory_format=memory_format).requires_grad_()
        out = run(block, maps)
        out.sin().sum().backward()
        gradients = {name: p.grad for name, p in block.named_parameters() if name != "out.bias"}
        results.append({"out": out, "maps": maps.grad, **gradients, **dict(block.named_buffers())})
    for name, expected in results[0].items():
        torch.testing.assert_close(results[1][name], expected, msg=lambda text, name=name: f"{name}: {text}")


def test_the_bias_before_the_batch_norm_has_no_gradient():
    block = randomised(4, 2).train()
    block(torch.randn(3, 4, 5, 2, dtype=torch.float64)).sin().sum().backward()
    assert block.out.bias is not None
    assert block.out.bias.grad is None


def one_after_the_other(values: Tensor, linear: nn.Linear, norm: nn.BatchNorm1d) -> Tensor:
    return norm(linear(values))


def at_once(values: Tensor, linear: nn.Linear, norm: nn.BatchNorm1d) -> Tensor:
    values, factors = normed_product(values, linear.weight, linear.bias, norm)
    return values @ factors


def case(inner: int, *, bias: bool = True) -> tuple[Tensor, nn.Linear, nn.BatchNorm1d]:
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(5, eps=0.01, momentum=0.3)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    values = torch.randn(12, inner) * 2 + 3
    return values.double(), nn.Linear(inner, 5, bias=bias).double(), norm.double()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("inner", [1, 3, 7])
def test_equals_torchs_batch_norm_of_the_linear_map(inner, bias):
    results = []
    for run in (one_after_the_other, at_once):
        values, linear, norm = case(inner, bias=bias)
        values.requires_grad_()
        normed = run(values, linear, norm)
        wanted = (values, linear.weight, norm.weight, norm.bias)
        results.append((normed, *torch.autograd.grad(normed.sin().sum(), wanted), *norm.buffers()))
    for expected, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-10, rtol=1e-10)


def test_the_second_batch_moves_the_running_statistics_on():
    values, linear, norm = case(3)
    other = copy.deepcopy(norm)
    for batch in (values, values * 2 - 1):
        at_once(batch, linear, norm)
        one_after_the_other(batch, linear, other)
    for ours, expected in zip(norm.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(ours, expected)
    assert norm.num_batches_tracked == 2


def test_a_mean_far_from_zero_costs_no_digits_in_bfloat16():
    values, linear, norm = case(3, bias=False)
    far = (values + 100).bfloat16()  # as wide as two of bfloat16's steps there
    left, right = normed_product(far, linear.weight.float(), None, norm.float())
    expected = one_after_the_other(far.double(), linear, norm.double())
    error = (left.bfloat16() @ right.bfloat16() - expected).abs().max()
    assert error < 0.03 * expected.abs().max()
