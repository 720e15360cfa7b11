"""The labels of a user's own images: whom, by which camera and in which modality each one shows.

Either folders name them:

    visible/<identity>/...    infrared/<identity>/...
    train.txt val.txt test.txt      optional: the identities of each split, one a line

or a table (CSV or Parquet) with the columns path (relative to the table), identity, modality, and where they are known
camera and split. Further columns are not read.
"""

import io
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from msclnet.datasets.archive import Source, UnreadableFileError
from msclnet.datasets.layout import UTF_16_MARKS, Layout, Tree
from msclnet.datasets.records import SPLITS, Modality, Split
from msclnet.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

TITLE = "Own images"
# Also what Pillow does not read: such a file is refused by name instead of being passed over.
ENDING = r"\.(?:jpe?g|jfif|png|bmp|gif|webp|tiff?|p[gnp]m|heic|heif|avif)"
LAYOUT = Layout(
    title=TITLE,
    lists=r"(?:train|val|test)\.txt",
    images=rf"(?P<modality>visible|infrared)/(?:(?P<identity>[^/.][^/]*)/)?(?P<rest>(?:[^/.][^/]*/)*[^/.][^/]*{ENDING})",
)
IMAGE = re.compile(LAYOUT.images, re.IGNORECASE)
MODALITY_OF: dict[str, Modality] = {name: name for name in get_args(Modality)}
SPLIT_OF: dict[str, Split] = {name: name for name in SPLITS}
NEEDED = ("path", "identity", "modality")
SHOWN = 5


@dataclass(frozen=True)
class Label:
    """What is known of one image."""

    path: str  # its name in the source
    identity: str  # as the user names the person; of digits alone, without leading zeros
    modality: Modality
    camera: str  # as the user names it; the modality where none is named
    split: Split | None  # None where that is to be drawn


def read_labels(source: Source, *, table: str, pattern: str) -> list[Label]:
    """The labels of all images, sorted by path.

    Args:
        source: The user's files.
        table: Name of the table in the source; empty: the folders name identity and modality.
        pattern: Where the path below an identity's folder names the camera, such as `{camera}_*`; `*` stands for any
            characters of one name. Empty: the first sub-folder is the camera, if there is one.

    Raises:
        UserError: There is no labelled image; a label is missing, unknown or contradicts another one; some identities
            have a split and others have none.
    """
    labels = _from_table(source, table) if table else _from_folders(source, pattern)
    _check_splits(labels)
    return sorted(labels, key=lambda label: label.path)


def _from_folders(source: Source, pattern: str) -> list[Label]:
    tree = Tree(source, LAYOUT)
    camera_of = re.compile(camera_pattern(pattern), re.IGNORECASE) if pattern else None
    split_of = _listed_splits(tree)
    labels, misplaced, nameless = [], [], []
    for name in tree.names:
        if not (match := IMAGE.fullmatch(name)):
            continue
        modality, rest = MODALITY_OF[match["modality"].lower()], match["rest"]
        found = camera_of.fullmatch(rest) if camera_of else None
        if match["identity"] is None:
            misplaced.append(name)
        elif camera_of and not found:
            nameless.append(name)
        else:
            camera = clean(found["camera"] if found else rest.rpartition("/")[0].partition("/")[0])
            person = clean(match["identity"])
            path = tree.root + name
            labels.append(Label(path, person, modality, camera or modality, split_of.get(person)))
    if misplaced:
        raise UserError(
            f"{TITLE}: {_some(misplaced)} in no identity's folder; expected is <modality>/<identity>/<image>"
        )
    if nameless:
        raise UserError(
            f"{TITLE}: {_some(nameless)} not as download.folder.pattern {pattern!r} says; it is compared with the path "
            "below the identity's folder"
        )
    if not labels:
        raise tree.nothing("no image visible/<identity>/<image> or infrared/<identity>/<image> was found")
    if split_of and (absent := sorted(split_of.keys() - {label.identity for label in labels})):
        raise UserError(
            f"{TITLE}: {', '.join(absent[:SHOWN])} of the lists {', '.join(SPLIT_LISTS)} without an image"
        )
    return labels


SPLIT_LISTS: dict[str, Split] = {f"{split}.txt": split for split in SPLITS}


def _listed_splits(tree: Tree) -> dict[str, Split]:
    split_of: dict[str, Split] = {}
    for name, split in SPLIT_LISTS.items():
        if tree.find(name) is None:
            continue
        for line in filter(None, map(clean, tree.text(name).splitlines())):
            if split_of.setdefault(line, split) != split:
                raise UserError(
                    f"{TITLE}: {line!r} is listed in {name} and in {split_of[line]}.txt; choose one"
                )
    return split_of


def camera_pattern(pattern: str) -> str:
    """A regular expression with the group `camera` for a pattern such as `{camera}_*`."""
    if pattern.count("{camera}") != 1 or re.search(r"[{}]", pattern.replace("{camera}", "")):
        raise UserError(
            f"download.folder.pattern is {pattern!r}; it holds {{camera}} once and else names and *, such as "
            "'{camera}_*' or 'cam{camera}/*'"
        )
    before, after = (re.escape(part).replace(r"\*", "[^/]*") for part in pattern.split("{camera}"))
    return f"{before}(?P<camera>[^/]+?){after}"


def _from_table(source: Source, table: str) -> list[Label]:
    frame = _read_table(source, table)
    folder = table.rpartition("/")[0]
    known = {_key(name): name for name in source.names()}
    labels: dict[str, Label] = {}
    absent = []
    for number, row in enumerate(frame.to_dict("records"), start=2):  # the first line names the columns
        place = f"{table} line {number}"
        given = {name: clean(row.get(name, "")) for name in (*NEEDED, "camera", "split")}
        if not given["identity"]:
            raise UserError(f"{TITLE}: {place} has no identity; give the person a name, or remove the line")
        modality = MODALITY_OF.get(given["modality"].lower())
        if modality is None:
            raise UserError(
                f"{TITLE}: {place} has the modality {given['modality']!r}; known are {' and '.join(MODALITY_OF)}"
            )
        split = SPLIT_OF.get(given["split"].lower())
        if given["split"] and split is None:
            raise UserError(
                f"{TITLE}: {place} has the split {given['split']!r}; known are {', '.join(SPLITS)}, or leave it empty"
            )
        path = "/".join(part for part in (folder, row["path"].replace("\\", "/").removeprefix("./")) if part)
        if (name := known.get(_key(path))) is None:
            absent.append(path)
            continue
        label = Label(name, given["identity"], modality, given["camera"] or modality, split)
        if labels.setdefault(name, label) != label:
            raise UserError(
                f"{TITLE}: {place} labels {path} in another way than a line before; remove one of them"
            )
    if absent:
        raise UserError(
            f"{TITLE}: {_some(absent)} not there; paths in {table} are relative to its own folder, within what "
            "data/source/own leads to"
        )
    if not labels:
        raise UserError(f"{TITLE}: {table} has no line with an image")
    return list(labels.values())


def _read_table(source: Source, table: str) -> "pd.DataFrame":
    import pandas as pd

    names = source.names()
    if table not in names:
        others = [name for name in names if name.lower().endswith((".csv", ".parquet"))][:SHOWN]
        found = f"; there are {', '.join(others)}" if others else ""
        raise UserError(f"{TITLE}: download.folder.table is {table!r}, which is not there{found}")
    try:
        data = source.read(table)
        if table.lower().endswith(".parquet"):
            frame = pd.read_parquet(io.BytesIO(data)).astype(object)
            frame = frame.where(frame.notna(), "").astype(str)
        else:
            text = data.decode("utf-16" if data.startswith(UTF_16_MARKS) else "utf-8-sig")
            head = text.partition("\n")[0]
            # A spreadsheet's language decides what it writes between columns.
            frame = pd.read_csv(
                io.StringIO(text), sep=max(",;\t", key=head.count), dtype=str, keep_default_na=False
            )
    except UnicodeDecodeError as error:
        raise UserError(f"{TITLE}: {table} is not in UTF-8 ({error}); save it as CSV in UTF-8") from error
    except (UnreadableFileError, ValueError, OSError) as error:
        raise UserError(f"{TITLE}: {table} cannot be read as a table: {error}") from error
    frame.columns = [str(name).strip().lower() for name in frame.columns]
    if missing := [name for name in NEEDED if name not in frame.columns]:
        raise UserError(
            f"{TITLE}: {table} has no column {' and '.join(missing)}, but {', '.join(frame.columns)}; needed are "
            f"{', '.join(NEEDED)}, and camera and split where they are known"
        )
    return frame


def clean(label: str) -> str:
    """A label in one spelling: composed characters, no blanks around it; digits alone without leading zeros."""
    label = unicodedata.normalize("NFC", label).strip()
    return str(int(label)) if re.fullmatch("[0-9]{1,9}", label) else label


def _key(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more} {'are' if len(names) > 1 else 'is'}"


def _check_splits(labels: Iterable[Label]) -> None:
    split_of: dict[str, Split | None] = {}
    for label in labels:
        if (first := split_of.setdefault(label.identity, label.split)) != label.split:
            raise UserError(
                f"{TITLE}: {label.path} puts identity {label.identity!r} into split {label.split or '(none)'}, another "
                f"image of the same person into {first or '(none)'}; a person belongs to one split"
            )
    without = [identity for identity, split in split_of.items() if split is None]
    if without and len(without) < len(split_of):
        raise UserError(
            f"{TITLE}: {len(without)} identities have no split ({', '.join(sorted(without)[:SHOWN])}), but others "
            "have; give one to all, or to none to have them drawn"
        )


def numbers_of(labels: Iterable[str]) -> Mapping[str, int]:
    """A number for each label: the only one in it where all labels have one and differ in it (`7`, `cam07`).

    Otherwise the place in the sorted list, from 1.
    """
    known = sorted(set(labels))
    inside = [re.fullmatch(r"\D*([0-9]{1,9})\D*", label) for label in known]
    numbers = [int(match[1]) for match in inside if match]
    if len(set(numbers)) < len(known):
        numbers = list(range(1, len(known) + 1))
    return dict(zip(known, numbers, strict=True))
