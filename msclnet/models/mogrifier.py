"""Mogrifier LSTM: input and hidden state gate each other before an ordinary LSTM step."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Gate(nn.Module):
    """2 sigmoid(W source) * target, with W full or a product of two thin matrices."""

    def __init__(self, source: int, target: int, *, rank: int, bias: bool) -> None:
        super().__init__()
        if rank == 0:
            self.linear: nn.Module = nn.Linear(source, target, bias=bias)
        else:
            self.linear = nn.Sequential(
                nn.Linear(source, rank, bias=False), nn.Linear(rank, target, bias=bias)
            )

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return 2 * torch.sigmoid(self.linear(source)) * target

    def of_zeros(self, target: Tensor) -> Tensor:
        """The same for a source of zeros."""
        last = self.linear[-1] if isinstance(self.linear, nn.Sequential) else self.linear
        assert isinstance(last, nn.Linear)
        return target if last.bias is None else 2 * torch.sigmoid(last.bias) * target


class MogrifierLSTMCell(nn.Module):
    """One step of a Mogrifier LSTM.

    Source: Melis et al., Mogrifier LSTM, ICLR 2020, eq. 1 to 3; MSCLNet's supplement, section 1.1, where
    round i (from 1) gates the input by `Q_i h` if i is odd and the hidden state by `R_i x` if i is even.

    Args:
        channels: Size of the input.
        hidden: Size of the hidden state.
        rounds: Number of gatings; 0 is an ordinary LSTM.
        rank: Inner width of Q and R; 0 makes them full matrices.
        bias: Whether Q and R have biases; the paper has none.
    """

    def __init__(
        self, channels: int, hidden: int, *, rounds: int = 5, rank: int = 0, bias: bool = False
    ) -> None:
        super().__init__()
        if rounds < 0 or rank < 0:
            raise ValueError(f"rounds and rank must not be negative: {rounds}, {rank}")
        self.gates = nn.ModuleList(
            Gate(hidden, channels, rank=rank, bias=bias)
            if i % 2 == 1
            else Gate(channels, hidden, rank=rank, bias=bias)
            for i in range(1, rounds + 1)
        )
        self.lstm = nn.LSTMCell(channels, hidden)
        with torch.no_grad():
            self.lstm.bias_ih.zero_()
            self.lstm.bias_hh.zero_()
            # Order of the four blocks in torch: input, forget, cell, output. A forget gate that starts open.
            self.lstm.bias_ih[hidden : 2 * hidden] = 1.0

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """x (N, channels), (h, c) each (N, hidden) -> (h, c). No state is one of zeros."""
        if state is None:
            return self._first(x)
        h, c = state
        for i, gate in enumerate(self.gates, start=1):
            if i % 2 == 1:
                x = gate(h, x)
            else:
                h = gate(x, h)
        return self.lstm(x, (h, c))

    def _first(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The step from zeros, without two thirds of the cell's products: h stays zero whatever gates it."""
        for gate in list(self.gates)[::2]:
            assert isinstance(gate, Gate)
            x = gate.of_zeros(x)
        gates = F.linear(x, self.lstm.weight_ih, self.lstm.bias_ih + self.lstm.bias_hh)
        enter, _, candidate, leave = gates.chunk(4, dim=1)
        c = torch.sigmoid(enter) * torch.tanh(candidate)
        return torch.sigmoid(leave) * torch.tanh(c), c
