"""The extractors: pixels, a stem for each modality, a trunk that is shared or not; the slim ResNet."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from msclnet.models.non_local import NonLocalBlock

# A ResNet slim enough to train on two CPU cores with 288 x 144 images, of which it averages squares of 3 x 3 pixels
# first (model.reduction): nine tenths of the cost are up there.


class BasicBlock(nn.Module):
    """The residual block of two 3 x 3 convolutions (He et al., CVPR 2016), with torchvision's names of parameters.

    Importing torchvision would cost every start of a slim network 4 s of processor time. `downsample` brings the
    input to the output's shape; None where it has it.
    """

    def __init__(self, channels: int, out: int, stride: int, downsample: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> (N, out, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        x += shortcut
        return self.relu(x)


def slim_stem(width: int) -> nn.Module:
    """conv1 to maxpool of a ResNet with `width` channels."""
    return nn.Sequential(
        nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
    )


def slim_trunk(width: int, *, last_stride: int, non_local_inner: int) -> nn.Module:
    """Four layers of one basic block each, of `width`, 2, 4 and 8 times `width` channels."""
    layers = []
    channels = width
    for i, stride in enumerate((1, 2, 2, last_stride)):
        out = width * 2**i
        downsample = None
        if stride != 1 or out != channels:
            downsample = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out)
            )
        layers.append([BasicBlock(channels, out, stride, downsample)])
        channels = out
    for module in nn.ModuleList(block for blocks in layers for block in blocks).modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return join_layers(layers, non_local_inner=non_local_inner)


# From images as they are stored to what a ResNet's first convolution expects.

# Mean and standard deviation of ImageNet's RGB values in [0, 1], as torchvision's weights expect them.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class Pixels(nn.Module):
    """Optional reduction by whole factors, then ImageNet's normalisation.

    Both are linear, so their order is free: the reduction adds the stored integers, which moves a sixth of the
    bytes that floating-point numbers of the full size would. Each output pixel is the mean over a square of side
    `reduction`, 1 to 11; rows and columns that fill no square are left out.
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


class TwoStreamBackbone(nn.Module):
    """Images of one modality -> maps of C `channels`.

    A stem is a ResNet's conv1 to maxpool, a trunk its layer1 to layer4. One object as both trunks shares it, as AGW
    does.
    """

    def __init__(
        self,
        *,
        stem_visible: nn.Module,
        stem_infrared: nn.Module,
        trunk_visible: nn.Module,
        trunk_infrared: nn.Module,
        channels: int,
    ) -> None:
        super().__init__()
        self.stem_visible = stem_visible
        self.stem_infrared = stem_infrared
        self.trunk_visible = trunk_visible
        self.trunk_infrared = trunk_infrared
        self.channels = channels

    @property
    def shared(self) -> bool:
        return self.trunk_visible is self.trunk_infrared

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Visible (V, 3, H, W) and infrared (R, 3, H, W) -> maps (V + R, C, h, w); V or R may be 0.

        With a shared trunk both modalities pass it in one batch, so that its batch norm sees both.
        """
        stems = []
        if len(visible):
            stems.append(self.stem_visible(visible))
        if len(infrared):
            stems.append(self.stem_infrared(infrared))
        if self.shared or len(stems) == 1:
            trunk = self.trunk_visible if len(visible) else self.trunk_infrared
            return trunk(torch.cat(stems))
        return torch.cat([self.trunk_visible(stems[0]), self.trunk_infrared(stems[1])])


def join_layers(layers: Sequence[Sequence[nn.Module]], *, non_local_inner: int) -> nn.Module:
    """Four layers of residual blocks in a row, with AGW's non-local blocks unless their inner width is 0.

    They follow the last 2 blocks of layer2 and the last 3 of layer3 (fewer where a layer has fewer blocks).
    """
    joined = []
    for blocks, last in zip(layers, (0, 2, 3, 0) if non_local_inner else (0, 0, 0, 0), strict=True):
        row: list[nn.Module] = []
        for i, block in enumerate(blocks):
            row.append(block)
            if i >= len(blocks) - last:
                norm = getattr(block, "bn3", None) or block.bn2
                assert isinstance(norm, nn.BatchNorm2d)
                row.append(NonLocalBlock(norm.num_features, non_local_inner))
        joined.append(nn.Sequential(*row))
    return nn.Sequential(*joined)
