import copy

import pytest
import torch
from torch import Tensor, nn

from msclnet.models.non_local import normed_product


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
