"""The layout of a data set: which files belong to it, and the folder of a source that they lie in."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from msclnet.datasets.archive import Source, UnreadableFileError
from msclnet.datasets.records import Modality
from msclnet.errors import UserError

EXTENSION = r"\.(?:jpg|jpeg|png|bmp)"
# A leading dot marks what macOS writes next to an image.
IMAGE_FILE = rf"[^/.][^/]*{EXTENSION}"
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class Image(NamedTuple):
    """A record before it is known to which split it belongs."""

    path: str
    identity: int
    camera: int
    modality: Modality


@dataclass(frozen=True)
class Layout:
    """Which files belong to a data set: patterns of its lists and of its images, below its folder."""

    title: str  # the data set's name in messages
    lists: str  # both patterns ignore upper and lower case
    images: str

    @cached_property
    def patterns(self) -> tuple[re.Pattern[str], re.Pattern[str]]:
        """Lists and images, with the folder that the data set lies in before them as the group `root`."""
        lists, images = (
            re.compile(f"(?P<root>(?:.*/)?)(?:{pattern})", re.IGNORECASE)
            for pattern in (self.lists, self.images)
        )
        return lists, images

    def includes(self, name: str) -> bool:
        """Whether a file belongs to the data set by its name, whatever folder the data set lies in."""
        return any(pattern.fullmatch(name) for pattern in self.patterns)

    def root(self, names: Iterable[str]) -> str:
        """The folder that the data set lies in: empty, or ending with `/`.

        The outermost folder with lists and images counts, else the outermost with a list, else with an image.
        UserError where there are two of them at one depth.
        """
        with_lists, with_images = self._roots(names)
        candidates = (with_lists & with_images) or with_lists or with_images
        depth = min((root.count("/") for root in candidates), default=0)
        outermost = sorted(root for root in candidates if root.count("/") == depth)
        if len(outermost) > 1:
            raise UserError(
                f"{self.title}: {' and '.join(outermost[:5])} all look like the data set's folder; link one of them, "
                "move the others away, or put their parts into one folder"
            )
        return outermost[0] if outermost else ""

    def elsewhere(self, names: Iterable[str], root: str) -> str:
        """Where images lie if not below the root, for messages: empty, or a sentence."""
        _, with_images = self._roots(names)
        if not with_images or root in with_images:
            return ""
        places = ", ".join(sorted(place or "the top folder" for place in with_images)[:5])
        return f"lists were found in {root or 'the top folder'}, images in {places}: put them side by side"

    def _roots(self, names: Iterable[str]) -> tuple[set[str], set[str]]:
        found: tuple[set[str], set[str]] = (set(), set())
        for name in names:
            for roots, pattern in zip(found, self.patterns, strict=True):
                if match := pattern.fullmatch(name):
                    roots.add(match["root"])
        return found


class Tree:
    """The files of a source below a data set's root; UserError where two folders look like the root."""

    def __init__(self, source: Source, layout: Layout) -> None:
        names = source.names()
        self.source = source
        self.title = layout.title
        self.root = layout.root(names)
        self.elsewhere = layout.elsewhere(names, self.root)
        self.names = sorted(name.removeprefix(self.root) for name in names if name.startswith(self.root))
        self._spelled = {name.casefold(): name for name in reversed(self.names)}
        self._spelled |= {name: name for name in self.names}

    def find(self, name: str) -> str | None:
        """The file as it is spelled here; copies made on Windows change upper and lower case. None: no such file."""
        return self._spelled.get(name) or self._spelled.get(name.casefold())

    def other_ending(self, name: str) -> str:
        """The ending under which a file is there that is not there as `name`, as after a conversion; empty: none."""
        return self._endings.get(name.casefold().rpartition(".")[0], "")

    @cached_property
    def _endings(self) -> dict[str, str]:
        return {name.casefold().rpartition(".")[0]: name.rpartition(".")[2] for name in self.names}

    def nothing(self, sentence: str) -> UserError:
        """The error that no image was found, with the folder that was taken as root and where images lie instead."""
        where = self.elsewhere or f"the data set's folder was taken to be {self.root or 'the top one'}"
        return UserError(f"{self.title}: {sentence}; {where}")

    def text(self, name: str) -> str:
        """Content of a text file, UTF-8 or UTF-16; UserError where it is missing, damaged or too large."""
        found = self.find(name)
        if found is None:
            raise UserError(
                f"{self.title}: {self.root}{name} is missing; link the folder or archive that holds all of the data set"
            )
        try:
            data = self.source.read(self.root + found)
        except UnreadableFileError as error:
            raise UserError(
                f"{self.title}: {self.root}{name} cannot be read ({error}); get the data set's files again"
            ) from error
        return data.decode("utf-16" if data.startswith(UTF_16_MARKS) else "utf-8-sig", errors="replace")
