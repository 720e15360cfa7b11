"""Packages that only exporting and OpenVINO need; most people do not."""

import importlib
import sys
from types import ModuleType

from msclnet.errors import UserError

EXTRA = "pip install --constraint constraints.txt --editable '.[export]'"


def optional(name: str, *, what_for: str) -> ModuleType:
    """Import a package of the extra `export`.

    Args:
        name: Of the package.
        what_for: What cannot be done without it, for the message.

    Raises:
        UserError: It is not installed.
    """
    if name == "openvino":
        # Importing openvino starts to send statistics of use; without this package it takes its own stub instead.
        sys.modules.setdefault("openvino_telemetry", None)  # pyright: ignore[reportArgumentType]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"{what_for} needs the package {name}, which cannot be imported ({error}); install this project's extra "
            f"'export': {EXTRA}"
        ) from error


def is_installed(name: str) -> bool:
    """Whether a package of the extra `export` is there."""
    try:
        optional(name, what_for="")
    except UserError:
        return False
    return True
