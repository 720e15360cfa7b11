"""From images as they are stored to what a ResNet's first convolution expects."""

import torch
from torch import Tensor, nn

# Mean and standard deviation of ImageNet's RGB values in [0, 1], as torchvision's weights expect them.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class Pixels(nn.Module):
    """Optional reduction by whole factors, then ImageNet's normalisation.

    Both are linear, so their order is free: the reduction adds the stored integers, which moves a sixth of the
    bytes that floating-point numbers of the full size would.

    Args:
        reduction: Each output pixel is the mean over a square of this side, 1 to 11; rows and columns that fill no
            square are left out.
    """

    def __init__(self, *, reduction: int = 1) -> None:
        super().__init__()
        if not 1 <= reduction <= 11:  # 11 x 11 x 255 still fits 16 bits
            raise ValueError(f"reduction must lie between 1 and 11, not {reduction}")
        self.reduction = reduction
        self.scale: Tensor
        self.shift: Tensor
        mean, std = torch.tensor(MEAN), torch.tensor(STD)
        self.register_buffer("scale", 1 / (std * 255 * reduction**2), persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 RGB (N, H, W, 3) -> float32 (N, 3, H / reduction, W / reduction), channels last in memory."""
        sums = images if self.reduction == 1 else self._sums(images)
        n, height, width, channels = sums.shape
        # Whole rows of pixels as one axis: three channels alone are too short a loop.
        rows = sums.reshape(n, height, width * channels).float()
        rows = torch.addcmul(self.shift.repeat(width), rows, self.scale.repeat(width))
        return rows.view(n, height, width, channels).permute(0, 3, 1, 2)

    def _sums(self, images: Tensor) -> Tensor:
        n, height, width, channels = images.shape
        side = self.reduction
        height, width = height // side, width // side
        whole = images[:, : height * side, : width * side]
        lines = whole.reshape(n, height, side, width * side * channels)
        columns = _add(lines, dim=2).reshape(n, height, width, side, channels)
        return _add(columns, dim=3)


def _add(values: Tensor, *, dim: int) -> Tensor:
    """Sum over a short axis; slice by slice, since torch's own sum of integers is not vectorised."""
    first, *others = values.unbind(dim)
    total = first.to(torch.int16)
    for other in others:
        total = total + other
    return total
