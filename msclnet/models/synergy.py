"""Modality Synergy: one feature from both modalities of a person (paper, eq. 2; supplement, section 1.1).

Shapes: N pairs, P parts, C channels.
"""

import torch
from torch import Tensor, nn

from msclnet.features import Stream, Synergy
from msclnet.models.heads import BNNeck
from msclnet.models.mogrifier import MogrifierLSTMCell
from msclnet.models.pooling import gem


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


class SynergyBranch(nn.Module):
    """theta_s: from both modalities' parts to the synergistic feature and its own identity logits.

    Args:
        channels, identities: C and K.
        gem_p: Exponent for the pooling of non-negative parts.
        cell: The Mogrifier LSTM, or None for the control without one (the mean of both modalities' parts).
        reading: `per_part`, `interleaved` or `two_chains`.
        residual: `none`: part j is the hidden state itself (eq. 2); `mean`: see MeanResidual.
        detached: Whether the extractors get no gradient through the inputs.
    """

    def __init__(
        self,
        *,
        channels: int,
        identities: int,
        gem_p: float,
        cell: MogrifierLSTMCell | None,
        reading: str,
        residual: str,
        detached: bool,
    ) -> None:
        super().__init__()
        if cell is None and residual != "mean":
            raise ValueError("without an LSTM the synergistic feature is the mean: residual must be 'mean'")
        self.lstm = READINGS[reading](cell) if cell is not None else None
        self.residual = MeanResidual(channels, channels) if residual == "mean" and cell is not None else None
        self.neck = BNNeck(channels, identities)
        self.gem_p = gem_p
        self.detached = detached

    def forward(self, visible: Stream, infrared: Stream) -> Synergy:
        """The i-th visible and the i-th infrared image show the same identity."""
        inputs = (visible.normalised_parts, infrared.normalised_parts, visible.parts, infrared.parts)
        isolated_parts = self._fuse(*(tensor.detach() for tensor in inputs))
        parts = isolated_parts if self.detached else self._fuse(*inputs)
        pooled = self._pool(parts)
        return Synergy(
            parts=parts,
            pooled=pooled,
            logits=self.neck(pooled)[1],
            isolated_parts=isolated_parts,
            isolated_pooled=self._pool(isolated_parts),
        )

    def _fuse(self, hats_visible: Tensor, hats_infrared: Tensor, visible: Tensor, infrared: Tensor) -> Tensor:
        if self.lstm is None:
            return (visible + infrared) / 2
        hidden = self.lstm(hats_visible, hats_infrared)
        return hidden if self.residual is None else self.residual(hidden, visible, infrared)

    def _pool(self, parts: Tensor) -> Tensor:
        if self.lstm is not None and self.residual is None:
            return parts.mean(dim=1)  # hidden states are signed: a generalised mean would cut them at 0
        return gem(parts.transpose(1, 2).unsqueeze(3), p=self.gem_p)
