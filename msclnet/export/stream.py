"""One modality's stream as a module of its own, without what only training uses; the packages of the extra `export`."""

import copy
import importlib
import sys
from collections.abc import Callable
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from msclnet.errors import UserError
from msclnet.models.network import MSCLNet
from msclnet.models.pooling import gem

EXTRA = "pip install --constraint constraints.txt --editable '.[export]'"


def optional(name: str, *, purpose: str) -> ModuleType:
    """Import a package of the extra `export`, or raise a UserError that says what `purpose` needs."""
    if name == "openvino":
        # Importing openvino starts to send statistics of use; without this package it takes its own stub instead.
        sys.modules.setdefault("openvino_telemetry", None)  # pyright: ignore[reportArgumentType]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"{purpose} needs the package {name}, which cannot be imported ({error}); install this project's extra "
            f"'export': {EXTRA}"
        ) from error


def is_installed(name: str) -> bool:
    """Whether a package of the extra `export` is there."""
    try:
        optional(name, purpose="")
    except UserError:
        return False
    return True


ArrayFunction = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""One stream on arrays: uint8 RGB (N, H, W, 3) -> pooled and BNNeck features, float32 (N, D), unnormalised."""


class OneStream(nn.Module):
    """theta_v or theta_r alone: images of one modality -> features.

    Batch norms are folded into copies of the convolutions before them: at test time they are the same linear map.
    `dtype` is that of the convolutions. Pixels, pooling and BNNeck stay in float32.
    """

    def __init__(self, network: MSCLNet, *, infrared: bool, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        backbone = network.backbone
        stem = backbone.stem_infrared if infrared else backbone.stem_visible
        trunk = backbone.trunk_infrared if infrared else backbone.trunk_visible
        self.pixels: nn.Module = copy.deepcopy(network.pixels)
        self.stem = _folded(stem, dtype=dtype)
        self.trunk = _folded(trunk, dtype=dtype)
        self.norm = copy.deepcopy(network.neck.norm)
        self.gem_p = network.gem_p
        self.dtype = dtype
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 RGB (N, H, W, 3) -> pooled feature (N, C) and BNNeck feature (N, C), float32, unnormalised."""
        maps = self.trunk(self.stem(self.pixels(images).to(self.dtype))).float()
        pooled = gem(maps, p=self.gem_p)
        return pooled, self.norm(pooled)


def _folded(module: nn.Module, *, dtype: torch.dtype) -> nn.Module:
    folded = fuse(copy.deepcopy(module).eval(), inplace=True)
    return folded.to(dtype).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
