"""A ResNet slim enough to train on two CPU cores with 288 x 144 images."""

from torch import nn
from torchvision.models.resnet import BasicBlock

from msclnet.models.backbone import join_layers

REDUCTION = 3  # of the image's sides before the first convolution: nine tenths of the cost are up there


def slim_stem(width: int) -> nn.Module:
    """conv1 to maxpool of a ResNet with `width` channels."""
    return nn.Sequential(
        nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
    )


def slim_trunk(width: int, *, last_stride: int, non_local_inner: int) -> nn.Module:
    """Four layers of one basic block each, of `width`, 2, 4 and 8 times `width` channels.

    Args:
        width: Channels of the first layer.
        last_stride: Stride of the last layer, 1 or 2.
        non_local_inner: Inner channels of the non-local blocks; 0 leaves them out.
    """
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
