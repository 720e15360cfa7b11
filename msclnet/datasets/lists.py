"""Reads the text files that assign identities or images to splits."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from msclnet.datasets.layout import Image, Tree
from msclnet.datasets.records import Modality
from msclnet.errors import UserError

LINE = re.compile(r"\s*(?P<path>\S.*?)\s+(?P<label>[0-9]{1,9})\s*")


@dataclass(frozen=True)
class Listed:
    """One line of an index."""

    place: str  # index and line number, for messages
    path: str  # as listed, below the data set's root
    identity: int  # the person's number by the image's folder
    label: int  # the index's own number for the person; public splits count from 0 in every file
    camera: int  # by the file's name; 0 where the pattern has no such group


def read_identities(tree: Tree, name: str) -> list[int]:
    """Identities of a comma-separated list; UserError where it is missing or holds something else."""
    entries = [entry for entry in re.split(r"[,\s]+", tree.text(name)) if entry]
    for entry in entries:
        if not re.fullmatch("[0-9]{1,9}", entry):
            raise UserError(
                f"{tree.title}: {tree.root}{name} holds {entry!r}, which is no identity; expected numbers and commas"
            )
    return [int(entry) for entry in entries]


def read_index(tree: Tree, name: str, pattern: re.Pattern[str], *, example: str) -> list[Listed]:
    """The images that an index lists, one `<path> <label>` a line; a line that comes again counts once.

    `pattern` is what a path looks like, with the groups `identity` and perhaps `camera`; `example` is for messages.
    UserError where the file is missing or empty, or a line is something else.
    """
    listed: dict[str, Listed] = {}
    for number, line in enumerate(tree.text(name).splitlines(), start=1):
        if not line.strip():
            continue
        place = f"{tree.root}{name} line {number}"
        parts = LINE.fullmatch(line)
        path = parts["path"].replace("\\", "/").removeprefix("./") if parts else ""
        match = pattern.fullmatch(path)
        if parts is None or match is None:
            raise UserError(f"{tree.title}: {place} is {line.strip()!r}; expected a line like {example!r}")
        camera = int(match.groupdict().get("camera") or 0)
        entry = Listed(place, path, int(match["identity"]), int(parts["label"]), camera)
        first = listed.setdefault(path.casefold(), entry)
        if first.label != entry.label:
            raise UserError(
                f"{tree.title}: {place} gives {path} the label {entry.label}, but {first.place} gives it {first.label}"
            )
    if not listed:
        raise UserError(f"{tree.title}: {tree.root}{name} is empty; expected lines like {example!r}")
    return list(listed.values())


def present(
    tree: Tree, lines: Iterable[Listed], modality: Modality, *, camera: int | None = None
) -> Iterator[Image]:
    """The listed images that are there; `camera` for lists that name none."""
    for line in lines:
        if found := tree.find(line.path):
            yield Image(tree.root + found, line.identity, camera or line.camera, modality)


def check_labels(lines: Iterable[Listed], *, title: str) -> None:
    """Raise a UserError unless labels and identity folders mean the same persons, in both modalities.

    Identities are read from the folders; public code trains and scores by the labels.
    """
    by_identity: dict[int, Listed] = {}
    by_label: dict[int, Listed] = {}
    for line in lines:
        same_identity = by_identity.setdefault(line.identity, line)
        same_label = by_label.setdefault(line.label, line)
        for first in (same_identity, same_label):
            if (first.identity, first.label) != (line.identity, line.label):
                raise UserError(
                    f"{title}: {line.place} gives identity {line.identity} ({line.path}) the label {line.label}, but "
                    f"{first.place} gives identity {first.identity} ({first.path}) the label {first.label}; every "
                    "identity has one label, the same in both modalities: take the lists from the data set again"
                )


def check_apart(train: Iterable[Listed], test: Iterable[tuple[int, str]], *, title: str) -> None:
    """Raise a UserError if a test identity (with the place that names it) is trained on too."""
    trained = {line.identity: line.place for line in train}
    for identity, place in test:
        if identity in trained:
            raise UserError(
                f"{title}: identity {identity} is listed for training ({trained[identity]}) and for the test "
                f"({place}); the two must not share anyone: take the lists from the data set again"
            )
