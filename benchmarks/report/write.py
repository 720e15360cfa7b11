"""Writes the report: bench.md, bench.json and bench.png."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.core.result import Section
from benchmarks.report.markdown import document
from benchmarks.report.picture import picture
from msclnet.figures.style import save
from pipelines.stages.paths import fresh, write_json

NAME = "bench"


def write_report(folder: Path, facts: Mapping[str, Any], sections: Sequence[Section]) -> None:
    """All three files, in a folder that is made when missing."""
    write_json(folder / f"{NAME}.json", {"machine": facts, "sections": [s.as_dict() for s in sections]})
    text = document(facts, sections, picture=f"{NAME}.png")
    fresh(folder / f"{NAME}.md").write_text(text, encoding="utf-8")
    save(picture(facts, sections), fresh(folder / f"{NAME}.png"))
