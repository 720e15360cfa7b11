"""MSCLNet: two-stream extractors, their necks, and the synergy branch that only training uses.

Shapes: V visible and R infrared images (V = R = N pairs in training), C channels, P parts, K identities.
"""

import torch
from torch import Tensor, nn

from msclnet.features import Features, Stream, Synergy
from msclnet.models.backbone import Pixels, TwoStreamBackbone
from msclnet.models.heads import BNNeck, ModalityNorm
from msclnet.models.mogrifier import MogrifierLSTMCell
from msclnet.models.pooling import gem, pool_maps
from msclnet.models.synergy import READINGS, MeanResidual


class SynergyBranch(nn.Module):
    """theta_s: from both modalities' parts to the synergistic feature and its own identity logits.

    Args:
        channels: C.
        identities: K.
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


class MSCLNet(nn.Module):
    """The whole network. Training uses `forward`, testing uses `embed` and with it one stream alone.

    Args:
        pixels: From stored images to the backbone's input.
        backbone: Both extractors' maps.
        neck: BNNeck and classifier on the pooled feature, shared by the modalities.
        normalise_visible: Instance normalisation of the visible maps (eq. 1), affine.
        normalise_infrared: The same for infrared maps.
        normalised_neck: Head on GeM(ReLU(f-hat)) for eq. 4 with labels, or None.
        synergy: theta_s, or None for the baseline.
        gem_p: Exponent of the pooling.
        parts: P.
    """

    def __init__(
        self,
        *,
        pixels: Pixels,
        backbone: TwoStreamBackbone,
        neck: BNNeck,
        normalise_visible: ModalityNorm,
        normalise_infrared: ModalityNorm,
        normalised_neck: BNNeck | None,
        synergy: SynergyBranch | None,
        gem_p: float,
        parts: int,
    ) -> None:
        super().__init__()
        self.pixels = pixels
        self.backbone = backbone
        self.neck = neck
        self.normalise_visible = normalise_visible
        self.normalise_infrared = normalise_infrared
        self.normalised_neck = normalised_neck
        self.synergy = synergy
        self.gem_p = gem_p
        self.parts = parts

    def maps(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """uint8 RGB images (V, H, W, 3) and (R, H, W, 3) -> float32 maps (V + R, C, h, w)."""
        return self.backbone(self.pixels(visible), self.pixels(infrared)).float()

    def forward(self, visible: Tensor, infrared: Tensor, *, with_synergy: bool = True) -> Features:
        """Features of N pairs; the i-th visible and the i-th infrared image show the same identity.

        Args:
            visible: uint8 RGB (N, H, W, 3).
            infrared: uint8 RGB (N, H, W, 3).
            with_synergy: False spares the synergistic branch where no loss looks at it.
        """
        n = len(visible)
        maps = self.maps(visible, infrared)
        # Only the convolutions gain from a low precision; the heads are small and need the digits.
        with torch.autocast(maps.device.type, enabled=False):
            pooled = pool_maps(maps, p=self.gem_p, parts=self.parts)
            _, logits = self.neck(pooled.whole)
            rows_and_norms = (
                (slice(0, n), self.normalise_visible),
                (slice(n, None), self.normalise_infrared),
            )
            hat_logits = self._hat_logits(maps[:n], maps[n:])
            streams = []
            for rows, norm in rows_and_norms:
                bare_parts = pooled.normalised_parts[rows]
                streams.append(
                    Stream(
                        pooled=pooled.whole[rows],
                        logits=logits[rows],
                        parts=pooled.parts[rows],
                        normalised_parts=norm.scaled(bare_parts),
                        isolated_normalised_parts=norm.scaled(bare_parts.detach()),
                        normalised_logits=None if hat_logits is None else hat_logits[rows],
                    )
                )
            synergy = self.synergy(*streams) if self.synergy is not None and with_synergy else None
        return Features(maps=maps, visible=streams[0], infrared=streams[1], synergy=synergy)

    def _hat_logits(self, visible: Tensor, infrared: Tensor) -> Tensor | None:
        """Logits on GeM(ReLU(f-hat)) of both modalities' maps, visible rows first, where there is a head for them."""
        if self.normalised_neck is None:
            return None
        hats = torch.cat([self.normalise_visible(visible), self.normalise_infrared(infrared)])
        return self.normalised_neck(gem(hats.relu(), p=self.gem_p))[1]

    def head(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, C, h, w) -> pooled feature (N, C), BNNeck feature (N, C), both unnormalised."""
        pooled = gem(maps, p=self.gem_p)
        return pooled, self.neck.norm(pooled)

    def embed(self, images: Tensor, *, infrared: bool) -> tuple[Tensor, Tensor]:
        """Test-time features of one modality: theta_v or theta_r alone.

        Args:
            images: uint8 RGB (N, H, W, 3).
            infrared: Which stream.

        Returns:
            Pooled feature (N, C) and BNNeck feature (N, C), float32, unnormalised.
        """
        none = images[:0]
        maps = self.maps(none, images) if infrared else self.maps(images, none)
        with torch.autocast(maps.device.type, enabled=False):
            return self.head(maps)
