"""What a survey of a data set finds, and the published numbers that it is compared with."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from msclnet.datasets.layout import Image, Tree
from msclnet.datasets.lists import Listed
from msclnet.datasets.records import Modality
from msclnet.errors import UserError

SHOWN = 10
Entry = TypeVar("Entry", int, Listed)


@dataclass(frozen=True)
class Difference:
    """One way in which a data set is not as it was published.

    Attributes:
        where: The folder, list or group of images.
        found: What is there.
        expected: What should be there; empty where `found` says it.
        missing: Names of all that is missing, where they are known.
    """

    where: str
    found: str
    expected: str
    missing: tuple[str, ...] = ()

    def sentence(self) -> str:
        """One sentence, with at most SHOWN of the missing names."""
        more = f" and {len(self.missing) - SHOWN} more" if len(self.missing) > SHOWN else ""
        missing = f"; missing: {', '.join(self.missing[:SHOWN])}{more}" if self.missing else ""
        expected = f", expected {self.expected}" if self.expected else ""
        return f"{self.where}: {self.found}{expected}{missing}"


@dataclass
class Survey:
    """What is there. Nothing is raised for what is missing.

    Attributes:
        title: The data set's name.
        root: The folder of the source that was taken for the data set's: empty, or ending with `/`.
        elsewhere: Where images lie if not below the root; else empty.
        folders: The folders that hold the images, and whether any image is in them.
        missing_lists: Lists that are not there.
        broken_lists: Lists that cannot be read or contradict each other.
        absent: Identities and images that are listed, but not there.
        listed: What the readable lists hold: numbers of identities and, where they list images, of images.
        parts: The images that are there, by the part of the data set that they belong to.
    """

    title: str
    root: str
    elsewhere: str
    folders: dict[str, bool]
    missing_lists: list[str] = field(default_factory=list)
    broken_lists: list[Difference] = field(default_factory=list)
    absent: list[Difference] = field(default_factory=list)
    listed: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    parts: dict[str, list[Image]] = field(default_factory=dict)

    def read(self, tree: Tree, name: str, reader: Callable[[], list[Entry]]) -> list[Entry]:
        """Count and return the entries of a list; where it is missing or broken, note that and return none."""
        if tree.find(name) is None:
            self.missing_lists.append(name)
            return []
        entries: list[Entry] = []
        with self.noting(f"list {name}"):
            entries = reader()
            lines = [entry for entry in entries if isinstance(entry, Listed)]
            identities = {line.identity for line in lines} if lines else set(entries)
            self.listed[name] = len(identities), len(lines) or None
        return entries

    @contextmanager
    def noting(self, where: str) -> Iterator[None]:
        """Note what a reader or a check raises, and go on."""
        try:
            yield
        except UserError as error:
            message = str(error).removeprefix(f"{self.title}: ")
            self.broken_lists.append(Difference(where, message, ""))


@dataclass(frozen=True)
class Number:
    """A published number of the images that are there.

    Attributes:
        parts: Parts of the survey that are counted together.
        modality, camera: Which of their images; None: any.
        identities, images: The published numbers; None: not published, not compared.
        folder: Where the images lie; the number is not compared when the whole folder is missing.
        note: What these images are for.
    """

    parts: tuple[str, ...]
    modality: Modality | None = None
    camera: int | None = None
    identities: int | None = None
    images: int | None = None
    folder: str | None = None
    note: str = ""

    def count(self, survey: Survey) -> tuple[int, int]:
        """Identities and images that are there."""
        chosen = [
            image
            for part in self.parts
            for image in survey.parts.get(part, [])
            if self.modality in (None, image.modality) and self.camera in (None, image.camera)
        ]
        return len({image.identity for image in chosen}), len(chosen)

    def __str__(self) -> str:
        camera = None if self.camera is None else f"camera {self.camera}"
        return ", ".join(filter(None, (" and ".join(self.parts), self.modality, camera, self.note)))


@dataclass(frozen=True)
class Published:
    """Published numbers of a data set.

    Attributes:
        lists: Identities and images that each list holds; None: not compared.
        images: Numbers of images that are there.
    """

    lists: Mapping[str, tuple[int | None, int | None]]
    images: tuple[Number, ...]


def absent_identities(
    name: str, identities: Iterable[int], pictured: set[int], *, place: str
) -> list[Difference]:
    """The identities of a list without a picture; none where nobody has one."""
    listed = set(identities)
    absent = sorted(listed - pictured)
    if not absent or not pictured:
        return []
    found = f"{len(listed) - len(absent)} with a folder in {place}"
    return [Difference(f"identities of {name}", found, f"{len(listed)}", tuple(f"{i:04d}" for i in absent))]


def absent(tree: Tree, lines: Iterable[Listed], *, folder: str) -> list[Difference]:
    """Identity folders of which nothing is there, then single images; neither where all of `folder` is missing.

    Images that are there under another ending, as after a conversion, are one difference of their own.

    Args:
        tree: The data set's files.
        lines: Lines that list images of `folder`; an image may be in several lists.
        folder: Where the listed images lie, for messages.
    """
    there = {line.path: tree.find(line.path) is not None for line in lines}
    renamed = {
        path: ending for path, found in there.items() if not found and (ending := tree.other_ending(path))
    }
    if renamed:
        endings = ", ".join(sorted({f".{ending}" for ending in renamed.values()}))
        lost = len(there) - sum(there.values())
        return [
            Difference(
                f"images in {folder}",
                f"listed and not there {lost:,} of {len(there):,}, of which {len(renamed):,} are there under another "
                f"ending ({endings}); take the files as they were given, or write these names into the lists",
                "",
                tuple(sorted(path for path, found in there.items() if not found)),
            )
        ]
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
