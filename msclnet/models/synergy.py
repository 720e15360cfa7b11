"""Modality Synergy: one feature from both modalities of a person (paper, eq. 2; supplement, section 1.1).

Shapes: N pairs, P parts, C channels.
"""

import torch
from torch import Tensor, nn

from msclnet.models.mogrifier import MogrifierLSTMCell


class PerPart(nn.Module):
    """Reading a: for each part the two steps (visible, infrared); weights shared by the parts."""

    def __init__(self, cell: MogrifierLSTMCell) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, visible_NPC: Tensor, infrared_NPC: Tensor) -> Tensor:
        n, parts, _ = visible_NPC.shape
        state = None
        for step in (visible_NPC, infrared_NPC):
            state = self.cell(step.flatten(0, 1), state)
        assert state is not None
        return state[0].unflatten(0, (n, parts))


class Interleaved(nn.Module):
    """Reading c: one sequence v1, r1, v2, r2, ...; part j is the hidden state after r_j."""

    def __init__(self, cell: MogrifierLSTMCell) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, visible_NPC: Tensor, infrared_NPC: Tensor) -> Tensor:
        state = None
        hidden = []
        for visible, infrared in zip(visible_NPC.unbind(1), infrared_NPC.unbind(1), strict=True):
            state = self.cell(visible, state)
            state = self.cell(infrared, state)
            hidden.append(state[0])
        return torch.stack(hidden, dim=1)


class TwoChains(nn.Module):
    """Reading d: a chain over the parts for each modality, one set of weights, states averaged at each step."""

    def __init__(self, cell: MogrifierLSTMCell) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, visible_NPC: Tensor, infrared_NPC: Tensor) -> Tensor:
        state = None
        hidden = []
        for visible, infrared in zip(visible_NPC.unbind(1), infrared_NPC.unbind(1), strict=True):
            of_visible, of_infrared = self.cell(visible, state), self.cell(infrared, state)
            state = ((of_visible[0] + of_infrared[0]) / 2, (of_visible[1] + of_infrared[1]) / 2)
            hidden.append(state[0])
        return torch.stack(hidden, dim=1)


class MeanResidual(nn.Module):
    """ReLU(mean of both modalities' parts + P h), with P starting at zero.

    This project's own addition: the fused feature starts as the mean of what it fuses, and the LSTM learns
    a correction.
    """

    def __init__(self, hidden: int, channels: int) -> None:
        super().__init__()
        self.project = nn.Linear(hidden, channels, bias=False)
        nn.init.zeros_(self.project.weight)

    def forward(self, hidden_NPC: Tensor, visible_NPC: Tensor, infrared_NPC: Tensor) -> Tensor:
        return torch.relu((visible_NPC + infrared_NPC) / 2 + self.project(hidden_NPC))


READINGS = {"per_part": PerPart, "interleaved": Interleaved, "two_chains": TwoChains}
