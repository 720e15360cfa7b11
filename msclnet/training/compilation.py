"""torch.compile for the part of the network that costs most."""

import os
import shutil
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from msclnet.errors import UserError


def compile_backbone(network: nn.Module) -> None:
    """Let torch.compile fuse what stands between the backbone's convolutions; it happens at the first step.

    The names of the weights stay as they are. Heads and losses are left alone: they are small, and their branches
    would be compiled one by one.

    Args:
        network: See msclnet.models.network.MSCLNet; changed in place.

    Raises:
        UserError: There is no C++ compiler.
    """
    require_compiler()
    backbone: Any = network.backbone
    backbone.compile()


def require_compiler() -> None:
    """Refuse where torch.compile could do nothing.

    Raises:
        UserError: There is no C++ compiler.
    """
    compiler = os.environ.get("CXX") or "g++"
    if shutil.which(compiler) is None:
        raise UserError(
            f"train.compile is true, but there is no C++ compiler {compiler!r}: install one (Debian's package g++), "
            "name another one in the variable CXX, or set train.compile to false"
        )


def not_compiled(validate: Callable[[Any], Mapping[str, float]]) -> Callable[[Any], Mapping[str, float]]:
    """`validate` with the network as it was before `compile_backbone`.

    Otherwise each of validation's batch sizes would be compiled as well, minutes for seconds of work.
    """

    def run(network: Any) -> Mapping[str, float]:
        with torch.compiler.set_stance("force_eager"):
            return validate(network)

    return run
