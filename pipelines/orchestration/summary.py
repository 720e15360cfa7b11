"""What a run shows of itself: tables of stages and metrics, and small pictures."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PICTURE_PIXELS = 900
PICTURE_BYTES = 700_000


def metric_rows(metrics: Mapping[str, Any], title: str = "") -> list[dict[str, str]]:
    """The evaluation's metrics as a table: a row for each section that holds numbers, a column for each metric."""
    mean, std = metrics.get("mean", metrics), metrics.get("std", {})
    numbers = {
        name: _short(value, std.get(name)) for name, value in mean.items() if isinstance(value, int | float)
    }
    rows = [{"of": title or "all", **numbers}] if numbers else []
    for name, value in metrics.items():
        if isinstance(value, Mapping) and name not in ("mean", "std"):
            rows += metric_rows(value, f"{title}.{name}" if title else name)
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


def _short(value: float, std: float | None) -> str:
    return f"{value:.4g}" if std is None else f"{value:.4g} ± {std:.2g}"
