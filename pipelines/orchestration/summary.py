"""What a run shows of itself: tables of stages and metrics, and small pictures."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PICTURE_PIXELS = 900
PICTURE_BYTES = 700_000


def metric_rows(metrics: Mapping[str, Any], title: str = "") -> list[dict[str, Any]]:
    """Nested metrics as a compact table: one row per innermost section, one column per metric.

    Args:
        metrics: nested mappings with numbers at the ends; {"mean": m, "std": s} counts as one number.
        title: name of the section, for the recursion.

    Returns:
        Rows with the key `of` (the section) and one key per metric; values are short texts.
    """
    values = {name: _short(value) for name, value in metrics.items() if not _is_section(value)}
    rows = [{"of": title or "all", **values}] if values else []
    for name, value in metrics.items():
        if _is_section(value):
            rows += metric_rows(value, f"{title}.{name}" if title else str(name))
    return rows


def text_table(rows: list[dict[str, Any]]) -> str:
    """Rows as aligned text; columns in order of first appearance."""
    from tabulate import tabulate

    return tabulate(rows, headers="keys", tablefmt="plain", disable_numparse=True)


def inline_picture(title: str, file: Path) -> str | None:
    """A PNG as Markdown that carries the picture in itself, reduced where it is large; None where it is no image."""
    from PIL import Image, UnidentifiedImageError

    try:
        picture = Image.open(file).convert("RGB")
    except UnidentifiedImageError:
        return None
    picture.thumbnail((PICTURE_PIXELS, PICTURE_PIXELS))
    for kind, options in (("PNG", {"optimize": True}), ("JPEG", {"quality": 80})):
        stream = io.BytesIO()
        picture.save(stream, kind, **options)
        if stream.tell() <= PICTURE_BYTES:
            data = base64.b64encode(stream.getvalue()).decode()
            return f"![{title}](data:image/{kind.lower()};base64,{data})"
    return None


def _is_section(value: Any) -> bool:
    return isinstance(value, Mapping) and set(value) != {"mean", "std"}


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{_short(value['mean'])} ± {_short(value['std'])}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
