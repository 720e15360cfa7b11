"""README keeps to its length, and its tree names the folders that are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_tree_names_every_package_folder() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = text[text.index("## Where to read on") :].split("```")[1]
    named, parent = set(), ""
    for line in tree.splitlines():
        if entry := re.match(r"( *)([\w/]+)/\s", line):
            parent = parent if entry[1] else entry[2]
            named.add(entry[2] if not entry[1] else f"{parent}/{entry[2]}")
    assert [
        name for name in sorted(named) if not (ROOT / name).is_dir() and not name.startswith("data/")
    ] == []
    packages = {
        path.relative_to(ROOT).as_posix()
        for top in ("msclnet", "pipelines")
        for path in (ROOT / top).iterdir()
        if (path / "__init__.py").is_file()
    }
    assert packages <= named
