"""The Mogrifier LSTM against its equations row by row, torch's own cell, and exact counts."""

from itertools import pairwise

import mogrifier_by_hand
import numpy as np
import pytest
import torch
from torch import nn

from msclnet.models.mogrifier import Gate, MogrifierLSTMCell

CHANNELS, HIDDEN = 5, 4


def random_cell(**settings) -> MogrifierLSTMCell:
    torch.manual_seed(0)
    cell = MogrifierLSTMCell(CHANNELS, HIDDEN, **settings).double()
    for parameter in cell.parameters():
        nn.init.normal_(parameter)
    return cell


def random_state(rows: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(  # type: ignore[return-value]
        torch.randn(rows, size, dtype=torch.float64, generator=generator)
        for size in (CHANNELS, HIDDEN, HIDDEN)
    )


@pytest.mark.parametrize("rounds", range(7))
@pytest.mark.parametrize("settings", [{}, {"bias": True}, {"rank": 2}, {"rank": 3, "bias": True}])
@pytest.mark.parametrize("fresh", [False, True])
def test_equals_the_equations_row_by_row(rounds, settings, fresh):
    """Also without a state, which is one of zeros."""
    cell = random_cell(rounds=rounds, **settings)
    x, h, c = random_state()
    with torch.no_grad():
        found = cell(x, None if fresh else (h, c))
    for row in range(3):
        state = np.zeros((2, HIDDEN)) if fresh else (h[row].numpy(), c[row].numpy())
        expected = mogrifier_by_hand.step(cell, x[row].numpy(), *state)
        for ours, by_hand in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours[row], by_hand, atol=1e-12)


def test_no_rounds_are_torchs_own_cell():
    cell = random_cell(rounds=0)
    x, h, c = random_state()
    reference = nn.LSTMCell(CHANNELS, HIDDEN).double()
    reference.load_state_dict(cell.lstm.state_dict())
    for ours, theirs in zip(cell(x, (h, c)), reference(x, (h, c)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_each_further_round_changes_the_result():
    results = []
    for rounds in range(7):
        cell = random_cell(rounds=6)
        cell.gates = cell.gates[:rounds]  # the same weights, fewer rounds
        x, h, c = random_state()
        results.append(cell(x, (h, c))[0])
    for fewer, more in pairwise(results):
        assert (fewer - more).abs().max() > 1e-3


def test_gates_of_zeros_let_everything_pass():
    cell = random_cell(rounds=5)
    for parameter in cell.gates.parameters():
        nn.init.zeros_(parameter)
    plain = random_cell(rounds=0)
    plain.lstm.load_state_dict(cell.lstm.state_dict())
    x, h, c = random_state()
    torch.testing.assert_close(cell(x, (h, c))[0], plain(x, (h, c))[0])


@pytest.mark.parametrize("rounds", [0, 1, 4, 5])
def test_odd_rounds_gate_the_input_and_even_ones_the_hidden_state(rounds):
    cell = MogrifierLSTMCell(CHANNELS, HIDDEN, rounds=rounds)
    shapes = []
    for gate in cell.gates:
        assert isinstance(gate, Gate)
        assert isinstance(gate.linear, nn.Linear)
        shapes.append((gate.linear.in_features, gate.linear.out_features))
    assert shapes == [(HIDDEN, CHANNELS) if i % 2 else (CHANNELS, HIDDEN) for i in range(1, rounds + 1)]


def parameters_of_gates(channels: int, **settings) -> int:
    cell = MogrifierLSTMCell(channels, channels, **settings)
    return sum(p.numel() for p in cell.gates.parameters())


def test_number_of_parameters():
    assert parameters_of_gates(8, rounds=5) == 5 * 64
    assert parameters_of_gates(8, rounds=5, bias=True) == 5 * (64 + 8)
    assert parameters_of_gates(8, rounds=5, rank=2) == 5 * 2 * 16
    assert parameters_of_gates(8, rounds=5, rank=2, bias=True) == 5 * (2 * 16 + 8)
    # what full matrices cost at the width of a ResNet-50
    with torch.device("meta"):
        cell = MogrifierLSTMCell(2048, 2048, rounds=1)
        assert sum(p.numel() for p in cell.gates.parameters()) == 4_194_304
        assert sum(p.numel() for p in cell.lstm.parameters()) == pytest.approx(33.6e6, rel=2e-3)


def test_the_forget_gate_starts_open_and_nothing_else_does():
    bias = (lambda lstm: lstm.bias_ih + lstm.bias_hh)(MogrifierLSTMCell(CHANNELS, HIDDEN).lstm)
    enter, forget, candidate, leave = bias.detach().chunk(4)
    assert (forget == 1).all()
    assert not torch.cat([enter, candidate, leave]).any()


@pytest.mark.parametrize("settings", [{}, {"bias": True}, {"rank": 3, "bias": True}])
def test_no_state_gives_the_gradients_of_one_of_zeros(settings):
    def gradients(*, explicit: bool) -> list[torch.Tensor]:
        cell = random_cell(rounds=5, **settings)
        x = random_state()[0].requires_grad_()
        zeros = torch.zeros(3, HIDDEN, dtype=torch.float64)
        state = cell(x, (zeros, zeros) if explicit else None)
        cell(x, state)[0].square().sum().backward()  # a second step, as all that use the cell take
        return [p.grad for p in (x, *cell.parameters()) if p.grad is not None]

    ours, expected = gradients(explicit=False), gradients(explicit=True)
    assert len(ours) == len(expected) == 1 + len(list(random_cell(rounds=5, **settings).parameters()))
    for gradient, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-10, atol=1e-12)


def test_negative_numbers_are_refused():
    for rounds, rank in ((-1, 0), (5, -1)):
        with pytest.raises(ValueError, match="must not be negative"):
            MogrifierLSTMCell(3, 3, rounds=rounds, rank=rank)
