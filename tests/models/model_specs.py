"""Specifications of networks that are built and run in no time."""

from pathlib import Path
from typing import Any

import torch

from msclnet.models.build import build_network
from msclnet.models.network import MSCLNet
from pipelines.stages.presets import load_preset

ROOT = Path(__file__).parents[2]


def spec(*, synergy: dict[str, Any] | None = None, **model: Any) -> dict[str, Any]:
    """The synthetic preset with a slimmer backbone, and changes to its sections `synergy` and `model`."""
    preset = load_preset("synthetic", ROOT)
    assert set(model) <= set(preset["model"])
    assert set(synergy or {}) <= set(preset["synergy"])
    return {
        "identities": 5,
        "model": {**preset["model"], "width": 8, **model},
        "synergy": {**preset["synergy"], **(synergy or {})},
    }


def network_of(specification: dict[str, Any], *, seed: int = 0) -> MSCLNet:
    """The network, with batch norms that have seen something."""
    torch.manual_seed(seed)
    network = build_network(specification)
    randomise_statistics(network)
    return network


def randomise_statistics(module: torch.nn.Module) -> None:
    """Give every batch norm statistics other than 0 and 1."""
    for part in module.modules():
        if isinstance(part, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_(std=0.3)
            part.running_var.uniform_(0.5, 2.0)


def random_images(n: int, height: int, width: int, *, seed: int = 0) -> torch.Tensor:
    """uint8 RGB (n, height, width, 3)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, height, width, 3), dtype=torch.uint8, generator=generator)
