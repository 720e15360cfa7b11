"""One training step of our network and of the textbook's, each with its losses, backward and update."""

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.core.presets import IDENTITIES, build, random_images
from benchmarks.textbook.losses import baseline_loss
from benchmarks.textbook.network import TextbookNetwork, normalised
from msclnet.images.batches import PairBatch
from msclnet.losses.objective import Objective
from msclnet.training.cuda_graph import GraphedStep
from msclnet.training.optimizer import build_optimizer, set_rate
from msclnet.training.step import Step, compile_backbone

RATE = 1e-3
IMAGES_PER_IDENTITY = 4  # of each modality

TimedStep = Callable[..., object]


def our_step(
    parameters: dict[str, Any],
    *,
    images: int,
    precision: str,
    channels_last: bool,
    device: torch.device,
    compiled: bool = False,
    recorded: bool = True,
) -> TimedStep:
    """A step as msclnet.training.loop takes it: `step()` on images that are there, or `step(batch)`.

    Args:
        parameters: All of a preset: network, losses, optimizer.
        images: Of both modalities together.
        precision: `fp32` or `bf16`.
        channels_last: The order of weights and maps in memory.
        device: Where.
        compiled: Whether torch.compile makes the backbone.
        recorded: Whether a GPU takes it from a CUDA graph.
    """
    network = build(parameters).to(device).train()
    if channels_last:
        network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = build_optimizer(network, parameters["train"]["optimizer"], pretrained=network.backbone)
    set_rate(optimizer, RATE)
    objective = Objective(parameters["loss"], parameters["synergy"])
    if compiled:
        compile_backbone(network)
    plain = Step(network, objective, optimizer, precision=precision, device=device)
    take = GraphedStep(plain) if recorded and device.type == "cuda" else plain
    ready = random_batch(images // 2, device)
    return lambda batch=ready: take(batch)


def random_batch(pairs: int, device: torch.device) -> PairBatch:
    """Images that are on the device, and labels where a loader leaves them."""
    visible, infrared = (random_images(pairs, seed=seed, device=device) for seed in (0, 1))
    cameras = torch.arange(pairs) % 2
    labels = (identities_of(pairs, torch.device("cpu")), cameras + 1, cameras + 3)
    if device.type == "cuda":
        labels = tuple(tensor.pin_memory() for tensor in labels)
    return PairBatch(visible, infrared, *labels)


def textbook_step(parameters: dict[str, Any], *, images: int, device: torch.device) -> TimedStep:
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
