"""MSCLNet: two-stream extractors, their necks, and the synergistic branch that only training uses.

Shapes: V visible and R infrared images (V = R = N pairs in training), C channels, P parts, K identities.
"""

import torch
from torch import Tensor, nn

from msclnet.features import Features, Stream
from msclnet.models.backbone import Pixels, TwoStreamBackbone
from msclnet.models.heads import BNNeck, ModalityNorm
from msclnet.models.pooling import gem, pool_maps
from msclnet.models.synergy import SynergyBranch


class MSCLNet(nn.Module):
    """The whole network. Training uses `forward`, testing uses `embed` and with it one stream alone.

    Args:
        pixels: From stored images to the backbone's input.
        neck: BNNeck and classifier on the pooled feature, shared by the modalities.
        normalise_visible, normalise_infrared: Instance normalisation of the maps (eq. 1), affine.
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

        Images are uint8 RGB (N, H, W, 3). `with_synergy=False` leaves the synergistic branch out where no loss reads
        it.
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
        """Logits on GeM(ReLU(f-hat)), visible rows first, where there is a head for them."""
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

        uint8 RGB (N, H, W, 3) -> pooled feature (N, C) and BNNeck feature (N, C), float32, unnormalised.
        """
        none = images[:0]
        maps = self.maps(none, images) if infrared else self.maps(images, none)
        with torch.autocast(maps.device.type, enabled=False):
            return self.head(maps)
