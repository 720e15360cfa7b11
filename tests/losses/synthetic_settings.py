"""Settings, a small network and a batch, for the tests that need the losses and the network together."""

from pathlib import Path
from typing import Any

import torch

from msclnet.features import PairLabels
from msclnet.models.build import build_network
from msclnet.models.network import MSCLNet
from pipelines.stages.presets import load_preset

PRESETS = Path(__file__).parents[2] / "presets"
TERMS = (
    "identity",
    "triplet",
    "synergy_identity",
    "divergence",
    "target",
    "local",
    "global",
    "sub",
    "intra",
    "inter",
)
IDENTITIES = 8


def settings(*, on: tuple[str, ...] | None = None, **changes: Any) -> dict[str, Any]:
    """The synthetic preset's `model`, `synergy` and `loss`, for a network that is tested in no time.

    L_div reaches the extractors, as in the paper, unless a test says otherwise.

    Args:
        on: The terms to switch on; None leaves the preset's.
        changes: Values by key with "__" for the dot: loss__routing="joint".
    """
    preset = load_preset("synthetic", PRESETS.parent)
    values = {name: preset[name] for name in ("model", "synergy", "loss")}
    values["model"] |= {"width": 8, "parts": 3}
    values["loss"]["divergence"]["reach"] = "extractors"
    if on is not None:
        for term in TERMS:
            values["loss"][term]["on"] = term in on
    for key, value in changes.items():
        *path, last = key.split("__")
        section = values
        for name in path:
            section = section[name]
        assert last in section, f"{key} is no key of the preset"
        section[last] = value
    return values


def small_network(values: dict[str, Any], *, seed: int = 0) -> MSCLNet:
    """The network of the settings; what starts at zero is randomised, so that gradients pass."""
    torch.manual_seed(seed)
    network = build_network(
        {"identities": IDENTITIES, "model": values["model"], "synergy": values["synergy"]}
    )
    if network.synergy is not None and network.synergy.residual is not None:
        torch.nn.init.normal_(network.synergy.residual.project.weight, std=0.3)
    return network.train()


def pair_batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, PairLabels]:
    """Four identities with three pairs each, from three visible and two infrared cameras; maps are 3 x 2."""
    generator = torch.Generator().manual_seed(seed)
    visible, infrared = torch.randint(
        0, 256, (2, 12, 144, 96, 3), dtype=torch.uint8, generator=generator
    ).unbind()
    labels = PairLabels(
        identities=torch.tensor([1, 6, 0, 3]).repeat_interleave(3),
        cameras_visible=torch.tensor([1, 1, 2, 2, 2, 2, 1, 4, 4, 1, 2, 4]),
        cameras_infrared=torch.tensor([3, 3, 6, 6, 6, 3, 3, 3, 3, 6, 6, 3]),
    )
    return visible, infrared, labels
