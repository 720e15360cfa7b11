"""Which entries of a folder or an archive are packed, and what to say when there is none."""

from collections.abc import Callable

from msclnet.datasets.acquire.limits import Limits
from msclnet.datasets.acquire.names import UnsafeNameError, check_characters, safe_name
from msclnet.errors import UserError

EXAMPLES = 5
SHOWN = 200  # characters of a name that is refused
ARCHIVE_ENDINGS = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.xz", ".tar.bz2", ".rar", ".7z")
REMEDY = "unpack it yourself, look at it, and give the folder"


class Selection:
    """Decides about each entry by its name and kind.

    Args:
        source: How messages name the folder or archive.
        wanted: Whether a file is needed, by its safe name.
        limits: Of these, the number of entries.
    """

    def __init__(self, source: str, *, wanted: Callable[[str], bool], limits: Limits) -> None:
        self.source = source
        self.wanted = wanted
        self.limits = limits
        self.entries = 0
        self.files = 0
        self.names: set[str] = set()
        self.examples: list[str] = []
        self.archives: list[str] = []

    def take(self, raw: str, *, regular: bool) -> str | None:
        """The name under which an entry is packed, or None for one that is not.

        Args:
            raw: The name as it stands in the source.
            regular: A plain file, and no link, device or pipe.

        Raises:
            UserError: The name is unsafe; or the entry is wanted and no plain file, or there twice; or there are
                too many entries.
        """
        self.count()
        try:
            name = safe_name(raw)
            is_wanted = self.wanted(name)
            if is_wanted:
                check_characters(name)
        except UnsafeNameError as error:
            raise UserError(f"{self.source}: the name {raw[:SHOWN]!r} {error}; {REMEDY}") from error
        if regular:
            self._remember(name)
        if not is_wanted:
            return None
        if not regular:
            raise UserError(
                f"{self.source}: {name!r} is a link or a device, not a file; links inside of archives are not "
                "followed: unpack it and give the folder, or pack the archive anew with the files themselves"
            )
        if name in self.names:
            raise UserError(f"{self.source}: {name!r} is there twice; {REMEDY}")
        self.names.add(name)
        return name

    def count(self) -> None:
        """Count an entry of any kind.

        Raises:
            UserError: There are too many.
        """
        self.entries += 1
        if self.entries > self.limits.files:
            raise UserError(
                f"{self.source} holds more than {self.limits.files} entries; give the data set alone"
            )

    def nothing_found(self, expected: str) -> UserError:
        """What to say when not one file was wanted.

        Args:
            expected: The files that were looked for, in words.
        """
        seen = f"{self.files} other files, for example {', '.join(map(repr, self.examples))}"
        lines = [
            f"{self.source} holds none of the files that are needed, but {seen if self.files else 'no file'}"
        ]
        if expected:
            lines.append(f"expected {expected}")
        if self.archives:
            lines.append(
                f"archives inside of it are not opened ({', '.join(map(repr, self.archives))}): give such an archive "
                "itself, or unpack it and give the folder"
            )
        return UserError("; ".join(lines))

    def _remember(self, name: str) -> None:
        self.files += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(name)
        if len(self.archives) < EXAMPLES and name.lower().endswith(ARCHIVE_ENDINGS):
            self.archives.append(name)
