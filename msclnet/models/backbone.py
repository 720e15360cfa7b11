"""The extractors: a stem for each modality, and a trunk that is shared or not."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from msclnet.models.non_local import NonLocalBlock


class TwoStreamBackbone(nn.Module):
    """Images of one modality -> maps.

    Args:
        stem_visible: conv1 to maxpool for visible images.
        stem_infrared: The same for infrared images.
        trunk_visible: layer1 to layer4 for visible maps.
        trunk_infrared: The same for infrared maps; the same object as `trunk_visible` shares it, as AGW does.
        channels: C of the maps.
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
        """Whether both modalities go through one trunk."""
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


def stem(resnet: ResNet) -> nn.Module:
    """conv1 to maxpool of a torchvision ResNet."""
    return nn.Sequential(resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool)


def trunk(resnet: ResNet, *, non_local_inner: int) -> nn.Module:
    """layer1 to layer4 of a torchvision ResNet (taken, not copied), with AGW's non-local blocks."""
    layers = [list(layer) for layer in (resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4)]
    return join_layers(layers, non_local_inner=non_local_inner)


def join_layers(layers: Sequence[Sequence[nn.Module]], *, non_local_inner: int) -> nn.Module:
    """Four layers of residual blocks in a row, with AGW's non-local blocks.

    They follow the last 2 blocks of layer2 and the last 3 of layer3 (fewer where a layer has fewer blocks).

    Args:
        layers: The blocks of layer1 to layer4.
        non_local_inner: Inner channels of the non-local blocks; 0 leaves them out.
    """
    non_local = (0, 2, 3, 0) if non_local_inner else (0, 0, 0, 0)
    return nn.Sequential(
        *(
            with_non_local(blocks, last=last, inner=non_local_inner)
            for blocks, last in zip(layers, non_local, strict=True)
        )
    )


def with_non_local(blocks: Sequence[nn.Module], *, last: int, inner: int) -> nn.Module:
    """The blocks in a row, each of the `last` ones followed by a non-local block."""
    out: list[nn.Module] = []
    for i, block in enumerate(blocks):
        out.append(block)
        if i >= len(blocks) - last:
            out.append(NonLocalBlock(out_channels(block), inner))
    return nn.Sequential(*out)


def out_channels(block: nn.Module) -> int:
    """Channels after a ResNet block."""
    norm = block.bn3 if isinstance(block, Bottleneck) else block.bn2
    assert isinstance(norm, nn.BatchNorm2d)
    return norm.num_features


def keep_last_resolution(resnet: ResNet) -> None:
    """Set the stride of layer4 to 1, in place: maps of 1/16 instead of 1/32 of the image."""
    block = resnet.layer4[0]
    main = block.conv1 if isinstance(block, BasicBlock) else block.conv2
    shortcut = block.get_submodule("downsample.0")
    for convolution in (main, shortcut):
        assert isinstance(convolution, nn.Conv2d)
        convolution.stride = (1, 1)
