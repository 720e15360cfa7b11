"""One training step of our network and of the textbook's, each with its losses, backward and update."""

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.core.presets import IDENTITIES, build, random_images
from benchmarks.textbook.losses import baseline_loss
from benchmarks.textbook.network import TextbookNetwork, normalised
from msclnet.features import PairLabels
from msclnet.losses.objective import Objective
from msclnet.training.compilation import compile_backbone
from msclnet.training.loop import precision_context
from msclnet.training.optimizer import build_optimizer, set_rate

RATE = 1e-3
IMAGES_PER_IDENTITY = 4  # of each modality

Step = Callable[..., object]


def our_step(
    parameters: dict[str, Any],
    *,
    images: int,
    precision: str,
    channels_last: bool,
    device: torch.device,
    compiled: bool = False,
) -> Step:
    """A step as msclnet.training.loop takes it: `step()` on images that are there, or `step(visible, infrared)`.

    Args:
        parameters: All of a preset: network, losses, optimizer.
        images: Of both modalities together.
        precision: `fp32` or `bf16`.
        channels_last: The order of weights and maps in memory.
        device: Where.
        compiled: Whether torch.compile makes the backbone.
    """
    network = build(parameters).to(device).train()
    if channels_last:
        network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = build_optimizer(network, parameters["train"]["optimizer"], pretrained=network.backbone)
    set_rate(optimizer, RATE)
    objective = Objective(parameters["loss"], parameters["synergy"])
    if compiled:
        compile_backbone(network)
    pairs = images // 2
    ready = [random_images(pairs, seed=seed, device=device) for seed in (0, 1)]
    cameras = torch.arange(pairs, device=device) % 2
    labels = PairLabels(identities_of(pairs, device), cameras + 1, cameras + 3)

    def step(*images: torch.Tensor) -> None:
        visible, infrared = images or ready
        with precision_context(precision, device):
            features = network(visible, infrared, with_synergy=objective.needs_synergy)
        total = objective(features, labels).total
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()

    return step


def textbook_step(parameters: dict[str, Any], *, images: int, device: torch.device) -> Step:
    """A step of the baseline in float32 and contiguous, on images that are floating-point numbers already.

    Args:
        parameters: All of a preset.
        images: Of both modalities together.
        device: Where.
    """
    torch.manual_seed(0)
    model, settings = parameters["model"], parameters["train"]["optimizer"]
    network = TextbookNetwork(IDENTITIES, inner=model["non_local_inner"], p=model["gem_p"]).to(device).train()
    optimizer = torch.optim.SGD(
        [parameter for parameter in network.parameters() if parameter.requires_grad],
        lr=RATE,
        momentum=settings["momentum"],
        nesterov=settings["nesterov"],
        weight_decay=settings["weight_decay"],
    )
    pairs = images // 2
    visible, infrared = (normalised(random_images(pairs, seed=seed)).to(device) for seed in (0, 1))
    identities = identities_of(pairs, device).repeat(2)

    def step() -> None:
        pooled, logits = network(visible, infrared)
        loss = baseline_loss(pooled, logits, identities)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def identities_of(pairs: int, device: torch.device) -> torch.Tensor:
    """Four pairs of each identity."""
    return torch.arange(pairs, device=device) // IMAGES_PER_IDENTITY
