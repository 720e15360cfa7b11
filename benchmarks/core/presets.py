"""The presets that are measured, and networks from them."""

from pathlib import Path
from typing import Any

import torch

from msclnet.models.build import build_network
from msclnet.models.network import MSCLNet
from pipelines.stages.presets import load_preset

ROOT = Path(__file__).resolve().parents[2]
IDENTITIES = 395  # SYSU-MM01's
HEIGHT, WIDTH = 288, 144

WHOLE = "sysu-mm01"  # the whole method
BASELINE = "agw-sysu-mm01"  # the same network with the baseline's losses alone


def preset(name: str) -> dict[str, Any]:
    """All parameters of a preset."""
    return load_preset(name, ROOT)


def build(parameters: dict[str, Any], *, identities: int = IDENTITIES, seed: int = 0) -> MSCLNet:
    """The preset's network with random weights."""
    torch.manual_seed(seed)
    spec = {"identities": identities, "model": parameters["model"], "synergy": parameters["synergy"]}
    return build_network(spec, pretrained=False)


def random_images(count: int, *, seed: int = 0, device: torch.device | None = None) -> torch.Tensor:
    """uint8 RGB (count, 288, 144, 3)."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, HEIGHT, WIDTH, 3), dtype=torch.uint8, generator=generator)
    return images.to(device or torch.device("cpu"))
