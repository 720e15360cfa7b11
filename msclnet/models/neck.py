"""BNNeck: a batch norm between the feature of the metric losses and that of the classifier."""

from torch import Tensor, nn


class BNNeck(nn.Module):
    """Batch norm with its bias frozen at 0, then a classifier without bias.

    Source: Luo et al., Bag of Tricks and a Strong Baseline for Deep Person Re-identification, CVPRW 2019,
    section 3.5.

    Args:
        channels: D of the feature.
        identities: Number of training identities.
    """

    def __init__(self, channels: int, identities: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)
        self.norm.bias.requires_grad_(False)
        self.classifier = nn.Linear(channels, identities, bias=False)
        nn.init.normal_(self.norm.weight, mean=1.0, std=0.01)
        nn.init.normal_(self.classifier.weight, std=0.001)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(N, D) -> normalised feature (N, D), logits (N, identities)."""
        normalised = self.norm(features)
        return normalised, self.classifier(normalised)
