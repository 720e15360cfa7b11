"""A user's own labelled images: packed with an index of their labels, and split by identity.

In the archive that `download` packs, images.csv names each image with its identity and camera, as numbers and as the
user calls them, its modality, and its split where the user gives one.
"""

import csv
import hashlib
import io
from collections.abc import Iterable, Sequence

from msclnet.datasets.archive import Source
from msclnet.datasets.labels import LAYOUT as USERS_LAYOUT
from msclnet.datasets.labels import MODALITY_OF, SPLIT_OF, TITLE, Label, numbers_of
from msclnet.datasets.layout import Image, Layout
from msclnet.datasets.records import Choice, Record, Split, in_order
from msclnet.datasets.survey import Survey
from msclnet.errors import UserError

INDEX = "images.csv"
COLUMNS = ("path", "identity", "camera", "modality", "split", "identity_label", "camera_label")
LAYOUT = Layout(title=TITLE, lists=r"images\.csv", images=USERS_LAYOUT.images)
PUBLISHED = None
ACCESS = (
    "Expected are the folders visible and infrared with a folder for each person, visible/<identity>/<image> and "
    "infrared/<identity>/<image>, or a table of paths, identities and modalities (download.folder.table); "
    "docs/your-own-data.md has both."
)


def index_of(labels: Sequence[Label]) -> bytes:
    """The index as CSV in UTF-8."""
    identities = numbers_of(label.identity for label in labels)
    cameras = numbers_of(label.camera for label in labels)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in labels:
        numbers = identities[one.identity], cameras[one.camera]
        writer.writerow((one.path, *numbers, one.modality, one.split or "", one.identity, one.camera))
    return text.getvalue().encode()


def _rows(source: Source) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(source.read(INDEX).decode(), newline="")))


def _image(row: dict[str, str]) -> Image:
    return Image(row["path"], int(row["identity"]), int(row["camera"]), MODALITY_OF[row["modality"]])


def list_records(source: Source, choice: Choice) -> list[Record]:
    """All images with the user's splits, or with drawn ones, sorted by split, identity, camera and path.

    Drawn are the identities with images of both modalities; the others go to the training split, which trains on
    pairs alone. Without validation, nothing is drawn for it, and identities that the user gave to it train too.
    """
    rows = _rows(source)
    given = {row["identity_label"]: row["split"] for row in rows}
    if any(given.values()):
        # Without validation, its identities train too.
        as_given: dict[str, Split] = {**SPLIT_OF, "val": "val" if choice.validation else "train"}
        split_of = {label: as_given[split] for label, split in given.items()}
    else:
        seen: dict[str, set[str]] = {}
        for row in rows:
            seen.setdefault(row["identity_label"], set()).add(row["modality"])
        drawn = draw_splits((label for label, modalities in seen.items() if len(modalities) == 2), choice)
        split_of: dict[str, Split] = {label: drawn.get(label, "train") for label in given}
    return in_order(Record(*_image(row), split_of[row["identity_label"]]) for row in rows)


def draw_splits(identities: Iterable[str], choice: Choice) -> dict[str, Split]:
    """Assign each identity to a split: in the order of a digest of seed and label, the first ones are tested on.

    The digest of a person does not depend on the others: when people are added, few of the former ones change splits.
    UserError where too few identities are left to train on.
    """
    drawn = choice.drawn
    if drawn is None:
        raise ValueError("own images without splits need choice.drawn")
    ordered = sorted(identities, key=lambda label: hashlib.sha256(f"{drawn.seed} {label}".encode()).digest())
    test = max(1, round(drawn.test * len(ordered)))
    val = max(1, round(drawn.val * len(ordered))) if choice.validation else 0
    if len(ordered) - test - val < 2:
        raise UserError(
            f"{TITLE}: {len(ordered)} identities have images of both modalities; {test} for the test and {val} for the "
            "validation leave fewer than the two that a training needs: label more people, or make "
            "preprocess.folder_split.test and val smaller"
        )
    return {
        label: "test" if place < test else "val" if place < test + val else "train"
        for place, label in enumerate(ordered)
    }


def identity_labels(source: Source) -> dict[int, str]:
    """What the user calls each identity."""
    return {int(row["identity"]): row["identity_label"] for row in _rows(source)}


def survey(source: Source) -> Survey:
    """Count the images, by the splits that the user gives."""
    parts: dict[str, list[Image]] = {}
    for row in _rows(source):
        parts.setdefault(row["split"] or "all", []).append(_image(row))
    return Survey(TITLE, root="", elsewhere="", folders={}, parts=parts)
