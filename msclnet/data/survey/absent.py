"""Images that are listed, but not there."""

from collections.abc import Iterable

from msclnet.data.lists import Listed
from msclnet.data.survey.findings import Difference
from msclnet.data.tree import Tree


def absent(tree: Tree, lines: Iterable[Listed], *, folder: str) -> list[Difference]:
    """Identity folders of which nothing is there, then single images; neither where all of `folder` is missing.

    Args:
        tree: The data set's files.
        lines: Lines that list images of `folder`; an image may be in several lists.
        folder: Where the listed images lie, for messages.
    """
    there = {line.path: tree.find(line.path) is not None for line in lines}
    if not any(there.values()):
        return []
    folders: dict[str, list[str]] = {}
    for path in sorted(there):
        folders.setdefault(path.rpartition("/")[0], []).append(path)
    empty = [name for name, paths in folders.items() if not any(there[path] for path in paths)]
    single = [path for name in folders.keys() - empty for path in folders[name] if not there[path]]
    differences = []
    if empty:
        where, found = f"identity folders in {folder}", f"{len(folders) - len(empty)} of those listed"
        names = tuple(sorted(empty, key=lambda name: int(name.rpartition("/")[2])))
        differences.append(Difference(where, found, f"{len(folders)}", names))
    if single:
        where, found = f"images in {folder}", f"{sum(there.values()):,} of those listed"
        differences.append(Difference(where, found, f"{len(there):,}", tuple(sorted(single))))
    return differences
