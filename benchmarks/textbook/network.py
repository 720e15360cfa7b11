"""AGW's network with two stems: ResNet, non-local attention, generalised-mean pooling, BNNeck."""

import torch
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.models.resnet import Bottleneck


class NonLocal(nn.Module):
    """Every position gets a mean over all positions, weighted by dot products, on top of itself."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.inner = inner
        self.theta = nn.Conv2d(channels, inner, 1)
        self.phi = nn.Conv2d(channels, inner, 1)
        self.g = nn.Conv2d(channels, inner, 1)
        self.out = nn.Conv2d(inner, channels, 1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        theta = self.theta(x).view(n, self.inner, -1).transpose(1, 2)
        phi = self.phi(x).view(n, self.inner, -1)
        g = self.g(x).view(n, self.inner, -1).transpose(1, 2)
        affinity = theta @ phi / (height * width)
        attended = (affinity @ g).transpose(1, 2).reshape(n, self.inner, height, width)
        return x + self.norm(self.out(attended))


class TextbookNetwork(nn.Module):
    """Both modalities in one batch through a ResNet-50 whose last stage keeps its resolution.

    Args:
        identities: Number of training identities.
        inner: Inner channels of the non-local blocks.
        p: Exponent of the pooling.
    """

    def __init__(self, identities: int, *, inner: int, p: float) -> None:
        super().__init__()
        self.p = p
        trunk = resnet50()
        self.stem_visible, self.stem_infrared = stem(), stem()
        last = next(trunk.layer4.children())
        assert isinstance(last, Bottleneck)
        for convolution in (last.conv2, last.get_submodule("downsample.0")):
            assert isinstance(convolution, nn.Conv2d)
            convolution.stride = (1, 1)
        self.layer1, self.layer2 = trunk.layer1, trunk.layer2
        self.layer3, self.layer4 = trunk.layer3, trunk.layer4
        self.attention2 = nn.ModuleList(NonLocal(512, inner) for _ in range(2))
        self.attention3 = nn.ModuleList(NonLocal(1024, inner) for _ in range(3))
        self.neck = nn.BatchNorm1d(2048)
        self.neck.bias.requires_grad_(False)
        self.classifier = nn.Linear(2048, identities, bias=False)

    def forward(self, visible: Tensor, infrared: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised float images (N, 3, H, W) of both modalities -> pooled features and logits of 2 N images."""
        pooled = self.pool(torch.cat([self.stem_visible(visible), self.stem_infrared(infrared)]))
        return pooled, self.classifier(self.neck(pooled))

    def embed(self, images: Tensor, *, infrared: bool) -> tuple[Tensor, Tensor]:
        """Normalised float images (N, 3, H, W) of one modality -> pooled and BNNeck features (N, 2048)."""
        pooled = self.pool(self.stem_infrared(images) if infrared else self.stem_visible(images))
        return pooled, self.neck(pooled)

    def pool(self, x: Tensor) -> Tensor:
        """Maps of a stem -> pooled features."""
        x = self.layer1(x)
        x = attended(self.layer2, self.attention2, x)
        x = attended(self.layer3, self.attention3, x)
        x = self.layer4(x)
        return x.clamp(min=1e-6).pow(self.p).mean(dim=(2, 3)).pow(1 / self.p)


def stem() -> nn.Sequential:
    """What a ResNet does before its first stage."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, padding=1),
    )


def attended(blocks: nn.Sequential, attention: nn.ModuleList, x: Tensor) -> Tensor:
    """A stage of residual blocks, the last ones each followed by attention."""
    for i, block in enumerate(blocks):
        x = block(x)
        if i >= len(blocks) - len(attention):
            x = attention[i - len(blocks) + len(attention)](x)
    return x


def normalised(images: Tensor) -> Tensor:
    """uint8 RGB (N, H, W, 3) -> float32 (N, 3, H, W) with ImageNet's mean and standard deviation, contiguous."""
    mean, deviation = (torch.tensor(v) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return ((images.float() / 255 - mean) / deviation).permute(0, 3, 1, 2).contiguous()
