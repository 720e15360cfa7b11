"""Mogrifier LSTM: input and hidden state gate each other before an ordinary LSTM step."""

import torch
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

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """x (N, channels), (h, c) each (N, hidden) -> (h, c)."""
        h, c = state
        for i, gate in enumerate(self.gates, start=1):
            if i % 2 == 1:
                x = gate(h, x)
            else:
                h = gate(x, h)
        return self.lstm(x, (h, c))

    def initial(self, n: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden and cell state of zeros for n rows, on the device and of the type of `like`."""
        zeros = like.new_zeros(n, self.lstm.hidden_size)
        return zeros, zeros
