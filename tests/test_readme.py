"""The README tells where everything is: its tree names each file of the packages, and no other."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("msclnet", "pipelines", "benchmarks", "presets", "experiments")


def named() -> set[str]:
    """Files below FOLDERS that the tree has a line for."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = text[text.index("## The tree") :].split("```")[1]
    found, folder = set(), ""
    for line in tree.splitlines():
        if heading := re.match(r"([\w/]+)/(\s|$)", line):
            folder = heading[1]
        elif entry := re.match(r"  (\S+)", line):
            found.add(f"{folder}/{entry[1]}")
    return {path for path in found if path.startswith(FOLDERS)}


def there() -> set[str]:
    """Source files below FOLDERS; empty __init__.py are not worth a line."""
    files = {
        path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".yaml")
    }
    return {
        path.relative_to(ROOT).as_posix()
        for path in files
        if path.name != "__init__.py" and "__pycache__" not in path.parts
    }


def test_the_tree_names_every_file_and_no_other() -> None:
    assert sorted(there() - named()) == []
    assert sorted(path for path in named() if not (ROOT / path).is_file()) == []
