"""The baseline as a textbook would write it: float32, contiguous, one plain operation after the other.

AGW (Ye et al., Deep Learning for Person Re-Identification: A Survey and Outlook, TPAMI 2021) with one stem for each
modality. Training, embedding and ranking are measured against it; in the tests it is an independent oracle.
"""

from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.models.resnet import Bottleneck

from msclnet.models.network import MSCLNet
from msclnet.models.non_local import NonLocalBlock


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

    `inner`: channels inside the non-local blocks; `p`: exponent of the pooling.
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


def baseline_loss(pooled: Tensor, logits: Tensor, identities: Tensor) -> Tensor:
    """Both losses of one batch: pooled (N, C), logits (N, K), identities (N,) in [0, K)."""
    return F.cross_entropy(logits, identities) + weighted_triplet_loss(pooled, identities)


def weighted_triplet_loss(features: Tensor, identities: Tensor) -> Tensor:
    """softplus of the weighted mean distance to the positives less that to the negatives, mean over the anchors.

    As AGW's results were made: an anchor is among its own positives, the largest value that a softmax subtracts is
    sought in the masked row with its zeros, and 1e-6 is added to its sum.
    """
    squares = (features * features).sum(dim=1)
    distances = squares[:, None] + squares[None, :] - 2 * (features @ features.t())
    distances = distances.clamp(min=1e-12).sqrt()
    positives = (identities[:, None] == identities[None, :]).float()
    negatives = 1 - positives
    far = weights(distances * positives, positives) * distances
    near = weights(-distances * negatives, negatives) * distances
    return F.softplus(far.sum(dim=1) - near.sum(dim=1)).mean()


def weights(values: Tensor, mask: Tensor) -> Tensor:
    """Softmax over a row's members."""
    shifted = torch.exp(values - values.max(dim=1, keepdim=True)[0]) * mask
    return shifted / (shifted.sum(dim=1, keepdim=True) + 1e-6)


def copy_weights(ours: MSCLNet, textbook: TextbookNetwork) -> None:
    """Copy every weight and statistic that embedding and the baseline's losses use."""
    pairs: list[tuple[nn.Module, nn.Module]] = [
        (ours.backbone.stem_visible, textbook.stem_visible),
        (ours.backbone.stem_infrared, textbook.stem_infrared),
        (ours.neck.norm, textbook.neck),
        (ours.neck.classifier, textbook.classifier),
    ]
    theirs = (textbook.layer1, textbook.layer2, textbook.layer3, textbook.layer4)
    attention = ((), textbook.attention2, textbook.attention3, ())
    stages = cast(nn.Sequential, ours.backbone.trunk_visible)
    for stage, blocks, after in zip(stages, theirs, attention, strict=True):
        plain = len(blocks) - len(after)
        mixed = [module for pair in zip(blocks[plain:], after, strict=True) for module in pair]
        pairs += zip(cast(nn.Sequential, stage), [*blocks[:plain], *mixed], strict=True)
    for source, target in pairs:
        if isinstance(source, NonLocalBlock) != isinstance(target, NonLocal):
            raise ValueError(f"{type(source).__name__} stands where the textbook has {type(target).__name__}")
        target.load_state_dict(source.state_dict())


def agw_way(
    distances_QG: np.ndarray,
    query_identities: np.ndarray,
    gallery_identities: np.ndarray,
    query_cameras: np.ndarray,
    gallery_cameras: np.ndarray,
    *,
    sysu: bool,
    stable: bool = False,
) -> tuple[np.ndarray, float, float]:
    """One argsort of the whole matrix, then a Python loop over the queries.

    `stable` decides ties as `rank` does, to compare results; the timed way leaves them to the default sort.
    """
    order_QG = np.argsort(distances_QG, axis=1, kind="stable" if stable else None)
    sorted_QG = gallery_identities[order_QG]
    matches_QG = (sorted_QG == query_identities[:, None]).astype(np.int32)
    curves, precisions, penalties = [], [], []
    for q in range(len(distances_QG)):
        cameras = gallery_cameras[order_QG[q]]
        kept = np.invert((query_cameras[q] == 3) & (cameras == 2)) if sysu else np.ones(len(cameras), bool)
        match = matches_QG[q][kept]
        if not np.any(match):
            continue
        found = match.cumsum()
        last = np.where(match == 1)[0].max()
        penalties.append(found[last] / (last + 1.0))
        listed = match
        if sysu:
            identities = sorted_QG[q][kept]
            firsts = np.unique(identities, return_index=True)[1]
            unique = np.array([identities[i] for i in sorted(firsts)])
            listed = (unique == query_identities[q]).astype(np.int32)
        curve = np.ones(20)
        head = listed.cumsum()[:20]
        curve[: len(head)] = np.minimum(head, 1)
        curves.append(curve)
        precision = np.asarray([x / (i + 1.0) for i, x in enumerate(found)]) * match
        precisions.append(precision.sum() / match.sum())
    return np.mean(curves, axis=0), float(np.mean(precisions)), float(np.mean(penalties))
