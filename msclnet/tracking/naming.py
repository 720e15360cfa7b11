"""Turns our names and values into what MLflow accepts: flat, of limited length, from a limited alphabet."""

import hashlib
import json
import re
from collections.abc import Mapping

from msclnet.tracking.masking import mask

KEY_LENGTH = 250
PARAM_LENGTH = 6000
TAG_LENGTH = 8000
DIGEST_LENGTH = 36

# Columns of a history that tell of the machine, not of the method: MLflow shows what begins with system/ apart.
OF_THE_MACHINE = ("images_per_second", "share_waiting_for_input", "gpu_memory_gib", "seconds_left")

_FORBIDDEN_IN_KEYS = re.compile(r"[^\w\-. :/]", re.ASCII)


def key(name: str) -> str:
    """A metric's, parameter's or tag's name as MLflow accepts it: other characters become `_`."""
    return fit(_FORBIDDEN_IN_KEYS.sub("_", name), KEY_LENGTH)


def metric(name: str) -> str:
    """A history column's name as a metric of MLflow; speed and memory become system metrics."""
    return f"system/{name}" if name in OF_THE_MACHINE else key(name)


def fit(text: str, length: int) -> str:
    """The text, or its beginning and a hash of the whole where it is longer than `length` characters.

    The same text always gives the same result, and texts that differ only behind the cut still differ: a
    resumed run may send its parameters again, and a changed one is noticed.
    """
    if len(text) <= length:
        return text
    mark = f"...{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return text[: length - len(mark)] + mark


def flatten(params: Mapping[str, object], *, prefix: str = "") -> dict[str, str]:
    """Nested parameters as one level of text: `{"train": {"epochs": 3}}` becomes `{"train.epochs": "3"}`.

    Lists become JSON; secrets in addresses are masked. Values keep their full length.
    """
    flat: dict[str, str] = {}
    for name, value in params.items():
        full = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, prefix=f"{full}."))
        elif isinstance(value, (list, tuple, Mapping)):
            flat[full] = mask(json.dumps(value, default=str))
        else:
            flat[full] = mask(str(value))
    return flat
