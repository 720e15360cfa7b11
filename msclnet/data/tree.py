"""A data set's files by their names below its own root, whatever folder or archive it lies in."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from msclnet.data.records import Modality
from msclnet.data.source import Source, UnreadableFileError
from msclnet.errors import UserError

EXTENSION = r"\.(?:jpg|jpeg|png|bmp)"
# A leading dot marks what macOS writes beside an image.
IMAGE_FILE = rf"[^/.][^/]*{EXTENSION}"


class Image(NamedTuple):
    """A record before it is known to which split it belongs."""

    path: str
    identity: int
    camera: int
    modality: Modality


@dataclass(frozen=True)
class Layout:
    """Which files belong to a data set.

    Attributes:
        title: The data set's name in messages.
        lists: Pattern of its lists of identities or images, below the root.
        images: Pattern of its images, below the root.
    """

    title: str
    lists: str
    images: str

    @cached_property
    def patterns(self) -> tuple[re.Pattern[str], re.Pattern[str]]:
        """Lists and images with the folder that the data set lies in before them, as the group `root`."""
        lists, images = (
            re.compile(f"(?P<root>(?:.*/)?)(?:{pattern})", re.IGNORECASE)
            for pattern in (self.lists, self.images)
        )
        return lists, images

    def wants(self, name: str) -> bool:
        """Whether a file belongs to the data set by its name, whatever folder the data set lies in."""
        return any(pattern.fullmatch(name) for pattern in self.patterns)

    def root(self, names: Iterable[str]) -> str:
        """The folder that the data set lies in: empty, or ending with `/`.

        The outermost one that holds a list counts, or an image where there is no list at all.
        """
        names = list(names)
        for pattern in self.patterns:
            roots = {match["root"] for name in names if (match := pattern.fullmatch(name))}
            if roots:
                return min(roots, key=lambda root: (root.count("/"), root))
        return ""


class Tree:
    """The files of a source that lie below a data set's root.

    Attributes:
        title: The data set's name in messages.
        root: Empty, or the root's folder with `/` at its end.
        names: The files below the root, without it, sorted.
    """

    def __init__(self, source: Source, layout: Layout) -> None:
        names = source.names()
        self.source = source
        self.title = layout.title
        self.root = layout.root(names)
        self.names = sorted(name.removeprefix(self.root) for name in names if name.startswith(self.root))
        self._spelled = {name.casefold(): name for name in reversed(self.names)}
        self._spelled |= {name: name for name in self.names}

    def find(self, name: str) -> str | None:
        """The file as it is spelled here; copies made on Windows change upper and lower case. None: no such file."""
        return self._spelled.get(name) or self._spelled.get(name.casefold())

    def text(self, name: str) -> str:
        """Content of a text file, without a byte order mark.

        Raises:
            UserError: There is no such file, or it is damaged or too large for a list.
        """
        found = self.find(name)
        if found is None:
            raise UserError(
                f"{self.title}: {self.root}{name} is missing; give the folder or archive that holds all of it"
            )
        try:
            return self.source.read(self.root + found).decode("utf-8-sig", errors="replace")
        except UnreadableFileError as error:
            raise UserError(
                f"{self.title}: {self.root}{name} cannot be read ({error}); get the data set's files anew"
            ) from error
