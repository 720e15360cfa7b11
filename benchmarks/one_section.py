"""Measures one section in this process, for benchmarks.isolated: `python -m benchmarks.one_section KEY SETTINGS OUT`"""

import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from benchmarks.core.result import Section
from benchmarks.core.settings import Settings
from pipelines.stages.paths import write_json

# In the order of the report: key -> module.
SECTIONS = {
    "input": "input",
    "feeding": "feeding",
    "training": "training",
    "embedding": "embedding",
    "ranking": "ranking",
    "startup": "startup",
    "no-op": "no_op",
    "growth": "growth",
}


def section(key: str) -> Callable[[Settings], Section]:
    """The function that measures it; its libraries are imported now."""
    return import_module(f"benchmarks.sections.{SECTIONS[key]}").run


def main() -> None:
    """Write the section as JSON."""
    key, settings, out = sys.argv[1:]
    write_json(Path(out), section(key)(Settings(**json.loads(settings))).as_dict())


if __name__ == "__main__":
    main()
