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
    """One way in which a data set is not as it was published."""

    where: str  # the folder, list or group of images
    found: str  # what is there
    expected: str  # what should be there; empty where `found` says it
    missing: tuple[str, ...] = ()  # names of all that is missing, where they are known

    def sentence(self) -> str:
        """One sentence, with at most SHOWN of the missing names."""
        more = f" and {len(self.missing) - SHOWN} more" if len(self.missing) > SHOWN else ""
        missing = f"; missing: {', '.join(self.missing[:SHOWN])}{more}" if self.missing else ""
        expected = f", expected {self.expected}" if self.expected else ""
        return f"{self.where}: {self.found}{expected}{missing}"


@dataclass
class Survey:
    """What is there. Nothing is raised for what is missing."""

    title: str
    root: str  # the folder of the source that was taken for the data set's: empty, or ending with `/`
    elsewhere: str  # where images lie if not below the root; else empty
    folders: dict[str, bool]  # those that hold the images, and whether any image is in them
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
    """A published number of the images that are there."""

    parts: tuple[str, ...]  # of the survey, counted together
    modality: Modality | None = None  # None: any
    camera: int | None = None  # None: any
    identities: int | None = None  # None: not published
    images: int | None = None  # None: not published
    folder: str | None = None  # where the images lie; not compared when the whole folder is missing
    note: str = ""  # what these images are for

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
    """Published numbers of a data set."""

    lists: Mapping[str, tuple[int | None, int | None]]  # identities and images of each; None: not compared
    images: tuple[Number, ...]


def absent_identities(
    name: str, identities: Iterable[int], pictured: set[int], *, place: str
) -> list[Difference]:
    """The identities of a list without a picture; none where no identity has one."""
    listed = set(identities)
    absent = sorted(listed - pictured)
    if not absent or not pictured:
        return []
    found = f"{len(listed) - len(absent)} with a folder in {place}"
    return [Difference(f"identities of {name}", found, f"{len(listed)}", tuple(f"{i:04d}" for i in absent))]


def absent(tree: Tree, lines: Iterable[Listed], *, folder: str) -> list[Difference]:
    """Identity folders of which nothing is there, then single images; neither where all of `folder` is missing.

    Images that are there under another ending, as after a conversion, are one difference of their own. A line may be in
    several lists.
    """
    paths = {line.path for line in lines}
    lost = {path for path in paths if tree.find(path) is None}
    if renamed := [ending for ending in map(tree.other_ending, lost) if ending]:
        endings = ", ".join(f".{ending}" for ending in sorted(set(renamed)))
        found = (
            f"listed and not there {len(lost):,} of {len(paths):,}, of which {len(renamed):,} are there under another "
            f"ending ({endings}); take the files as they were given, or write these names into the lists"
        )
        return [Difference(f"images in {folder}", found, "", tuple(sorted(lost)))]
    if lost == paths:
        return []
    folders, filled = ({path.rpartition("/")[0] for path in some} for some in (paths, paths - lost))
    differences = []
    if empty := sorted(folders - filled, key=lambda name: int(name.rpartition("/")[2])):
        where, found = f"identity folders in {folder}", f"{len(filled)} of those listed"
        differences.append(Difference(where, found, f"{len(folders)}", tuple(empty)))
    if single := sorted(path for path in lost if path.rpartition("/")[0] in filled):
        where, found = f"images in {folder}", f"{len(paths - lost):,} of those listed"
        differences.append(Difference(where, found, f"{len(paths):,}", tuple(single)))
    return differences
