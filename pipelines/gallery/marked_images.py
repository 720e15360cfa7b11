"""The images that people have marked, with their labels: a table, or an archive that training on own data reads."""

import csv
import io
import zipfile
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from msclnet.gallery.marks import marked_identities
from msclnet.gallery.store import Gallery

LABELS = ("path", "identity", "modality", "camera")  # columns of the table
TABLE = "marks.csv"


class Labelled(NamedTuple):
    """A marked image: its labels, its name in an archive, and what reads it."""

    labels: tuple[str, ...]
    name: str
    read: Callable[[], bytes]


def marks_table(gallery: Gallery) -> str:
    """The marked images with their labels as CSV; the path of an uploaded query is the one in `marks_archive`.

    Marks of images that were removed from the gallery are left out.

    Raises:
        UserError: Marks contradict each other.
    """
    return _csv([each.labels for each in _labelled(gallery)])


def marks_archive(gallery: Gallery) -> bytes:
    """The same with the images as the network sees them: a zip archive with marks.csv, ready for training.

    Raises:
        UserError: Marks contradict each other.
    """
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        rows = []
        for (_, *labels), name, read in _labelled(gallery):
            file.writestr(name, read())
            rows.append((name, *labels))
        file.writestr(TABLE, _csv(rows))
    return archive.getvalue()


def _labelled(gallery: Gallery) -> list[Labelled]:
    marks, uploads = gallery.marks.all(), gallery.marks.query_images()
    stored = gallery.records(sorted({id for each in marks for id in (each.query, each.image)}))
    marks = [each for each in marks if {each.query, each.image} <= stored.keys() | uploads.keys()]
    known = {id: row["identity"] for id, row in stored.items() if row["identity"]}
    found = []
    for id, identity in marked_identities(marks, known).items():
        if row := stored.get(id):
            labels = row["path"], identity, row["modality"], row["camera"] or ""
            found.append(Labelled(labels, f"images/{id}.jpg", partial(gallery.image, id)))
        else:
            name = f"images/{id}.png"
            labels = name, identity, id.partition("-")[0], ""
            found.append(Labelled(labels, name, partial(uploads.__getitem__, id)))
    return found


def _csv(rows: list[tuple[str, ...]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([LABELS, *rows])
    return text.getvalue()
