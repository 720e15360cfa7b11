"""Gives the textbook network the weights of ours, so that both compute the same function."""

from collections.abc import Iterator
from typing import cast

from torch import nn

from benchmarks.textbook.network import NonLocal, TextbookNetwork
from msclnet.models.network import MSCLNet
from msclnet.models.non_local import NonLocalBlock


def copy_weights(ours: MSCLNet, textbook: TextbookNetwork) -> None:
    """Copy every weight and statistic that embedding and the baseline's losses use.

    Raises:
        ValueError: The networks do not consist of the same blocks.
    """
    layers = cast(nn.Sequential, ours.backbone.trunk_visible)
    stages = [cast(nn.Sequential, layer) for layer in layers]
    pairs: list[tuple[nn.Module, nn.Module]] = [
        (ours.backbone.stem_visible, textbook.stem_visible),
        (ours.backbone.stem_infrared, textbook.stem_infrared),
        (ours.neck.norm, textbook.neck),
        (ours.neck.classifier, textbook.classifier),
    ]
    for stage, theirs in zip(stages, _stages(textbook), strict=True):
        pairs += zip(stage, theirs, strict=True)
    for source, target in pairs:
        if isinstance(source, NonLocalBlock) != isinstance(target, NonLocal):
            raise ValueError(f"{type(source).__name__} stands where the textbook has {type(target).__name__}")
        target.load_state_dict(source.state_dict())


def _stages(textbook: TextbookNetwork) -> Iterator[list[nn.Module]]:
    """Blocks of each stage, with their attention in between."""
    attention: dict[int, nn.ModuleList] = {2: textbook.attention2, 3: textbook.attention3}
    layers = (textbook.layer1, textbook.layer2, textbook.layer3, textbook.layer4)
    for number, layer in enumerate(layers, start=1):
        blocks = list(layer)
        after = list(attention.get(number, ()))
        plain = len(blocks) - len(after)
        mixed = [module for pair in zip(blocks[plain:], after, strict=True) for module in pair]
        yield [*blocks[:plain], *mixed]
