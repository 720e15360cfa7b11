"""A gallery: a LanceDB table of images with their embeddings, in a folder or an object store, and a table of marks.

Everything about the table's model stands in the metadata of its schema, so that data and description change together.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import lancedb
import pyarrow as pa
from filelock import FileLock
from lancedb.table import LanceTable

from msclnet.errors import UserError
from msclnet.gallery.marks import Marks
from msclnet.gallery.reading import BATCH_ROWS, StoredImages, sql_explained
from msclnet.gallery.schema import (
    FORMAT,
    IMAGES,
    MARK_COLUMNS,
    MARKS,
    METADATA,
    REFUSED,
    REFUSED_COLUMNS,
    GalleryInfo,
    GalleryModel,
    schema_of,
)

REBUILT = "images_rebuilt"  # while a gallery is being rebuilt
KEPT = timedelta(hours=1)  # how long files of former versions stay, for those who are reading them
FRESH = timedelta(seconds=1)  # after this time an open gallery looks for what other processes have written


class Gallery(StoredImages):
    """An open gallery; made by `Gallery.create` or `Gallery.open`. Threads may share it."""

    def __init__(self, address: str, connection: Any, images: LanceTable) -> None:
        super().__init__(address, images)
        self._connection = connection

    @cached_property
    def marks(self) -> Marks:
        """What people have marked."""
        return Marks(self._connection.open_table(MARKS))

    @classmethod
    def create(
        cls,
        address: str | Path,
        model: GalleryModel,
        *,
        others: Sequence[pa.Field] = (),
        created: str = "",
        exist_ok: bool = False,
    ) -> "Gallery":
        """Make an empty gallery.

        Args:
            address: A folder that does not exist yet, or an object store's address such as s3://bucket/name.
            model: Of the embeddings to come.
            others: The user's own columns.
            created: Date and time in ISO format; now if empty.
            exist_ok: Whether one that is there already, such as another process has made just now, is opened instead.

        Raises:
            UserError: There is one already.
        """
        address = str(address)
        connection = _connect(address)
        if IMAGES in connection.table_names() and not exist_ok:
            raise UserError(f"{address}: there is a gallery already; give another name, or add to it")
        schema = schema_of(model, others=others, created=created)
        images = connection.create_table(IMAGES, schema=schema, exist_ok=True)
        connection.create_table(MARKS, schema=MARK_COLUMNS, exist_ok=True)
        return cls(address, connection, images)

    @classmethod
    def open(cls, address: str | Path) -> "Gallery":
        """Open a gallery.

        Raises:
            UserError: There is none, or a newer version of this program has made it.
        """
        address = str(address)
        if "://" not in address and not Path(address).is_dir():
            raise UserError(f"{address}: there is no such gallery; `msclnet gallery add` makes one")
        connection = _connect(address)
        if IMAGES not in connection.table_names():
            raise UserError(
                f"{address} is no gallery: it holds no table {IMAGES!r}; `msclnet gallery add` makes one"
            )
        gallery = cls(address, connection, connection.open_table(IMAGES))
        stored = gallery.metadata.get("format", 0)
        if not 1 <= stored <= FORMAT:
            raise UserError(
                f"{address}: format {stored} of the table; this version of msclnet reads up to {FORMAT}: "
                "install a newer one"
            )
        return gallery

    def renew_description(self, **values: Any) -> None:
        """Change what is kept of the gallery as a whole, such as `model`, whose calibration may be new, or `index`."""
        description = json.dumps({**self.metadata, **values})
        self._images.to_lance().update_schema_metadata({METADATA.decode(): description})
        self._images.checkout_latest()

    def add(self, rows: pa.Table) -> None:
        """Add images; a row takes the place of a former one of the same path.

        Args:
            rows: The columns of the gallery, see `COLUMNS`; `vector` float16 (N, D), L2-normalised.
        """
        (
            self._images.merge_insert("path")
            .when_matched_update_all()
            .when_not_matched_insert_all()
            .execute(rows.cast(self.schema))
        )

    def describe(self, rows: Sequence[dict[str, Any]]) -> None:
        """Change columns of images that are there.

        Args:
            rows: `path` and the new values by column; a column that a row does not name keeps its value.
        """
        kinds: dict[frozenset[str], list[dict[str, Any]]] = {}
        for row in rows:
            kinds.setdefault(frozenset(row), []).append(row)
        for names, alike in kinds.items():
            schema = pa.schema([column for column in self.schema if column.name in names])
            changes = pa.Table.from_pylist(alike, schema=schema)
            self._images.merge_insert("path").when_matched_update_all().execute(changes)

    def add_columns(self, columns: Sequence[pa.Field]) -> None:
        """Give the table the user's own columns that it lacks; they are empty in the rows that are there.

        Raises:
            UserError: One is there with another type.
        """
        present = self.schema
        for column in columns:
            if column.name in present.names and present.field(column.name).type != column.type:
                raise UserError(
                    f"{self.address}: column {column.name!r} holds {present.field(column.name).type}, the new values "
                    f"are {column.type}; give the column another name, or values of that type"
                )
        if new := [column for column in columns if column.name not in present.names]:
            self._images.add_columns(pa.schema(new))

    def optimize(self) -> None:
        """Join small files, bring the indexes up to date, and delete files that no search needs any more."""
        self._images.optimize(cleanup_older_than=KEPT)

    def beside(self, model: GalleryModel) -> "Gallery":
        """A second table for the same images with another model's embeddings; one that was begun is gone on with."""
        others = [self.schema.field(name) for name in self.others]
        schema = schema_of(model, others=others, rebuilt_from=self.version)
        if REBUILT in self._connection.table_names():
            begun = Gallery(self.address, self._connection, self._connection.open_table(REBUILT))
            if begun.model == model and begun.metadata["rebuilt_from"] == self.version:
                return begun
            self._connection.drop_table(REBUILT)
        return Gallery(self.address, self._connection, self._connection.create_table(REBUILT, schema=schema))

    def replace_with(self, other: "Gallery") -> None:
        """Put the rows and the description of a second table in the place of this one's, in one step."""
        rows = other._images.search().to_batches(BATCH_ROWS)
        self._images = self._connection.create_table(IMAGES, data=rows, schema=other.schema, mode="overwrite")
        self._connection.drop_table(other._images.name)

    def remove(self, where: str) -> int:
        """Remove the images that fulfil a condition in SQL, such as `camera = 'c3'`; returns how many.

        Raises:
            UserError: The condition is none.
        """
        with sql_explained(where, self.schema.names):
            count = self._images.count_rows(where)
            if count:
                self._images.delete(where)
        return count

    def info(self) -> GalleryInfo:
        """Counts, model and size."""
        table = self._images.search().select(["modality", "camera"]).to_arrow()
        return GalleryInfo(
            address=self.address,
            images=table.num_rows,
            modalities=_counts(table["modality"]),
            cameras=_counts(table["camera"]),
            model=self.model,
            created=self.metadata["created"],
            version=self.version,
            columns=self.others,
            marks=len(self.marks),
            bytes=None if "://" in self.address else _bytes_below(Path(self.address)),
        )

    def refuse(self, files: Sequence[dict[str, Any]]) -> None:
        """Keep which files an addition refused: `path`, `camera`, `time` and `reason`; each path once."""
        if files:
            (
                self._connection.create_table(REFUSED, schema=REFUSED_COLUMNS, exist_ok=True)
                .merge_insert("path")
                .when_not_matched_insert_all()
                .execute(pa.Table.from_pylist(list(files), schema=REFUSED_COLUMNS))
            )

    def refused(self) -> list[dict[str, Any]]:
        """The files that additions have refused."""
        if REFUSED not in self._connection.table_names():
            return []
        return self._connection.open_table(REFUSED).to_arrow().to_pylist()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """For as long as the block runs, no other process of this machine adds to the gallery."""
        with writing_lock(self.address):
            self._images.checkout_latest()  # what the process before has written
            yield


def is_gallery(address: str | Path) -> bool:
    """Whether there is a gallery at an address; a folder is not made."""
    local = "://" not in str(address)
    return (not local or Path(address).is_dir()) and IMAGES in _connect(str(address)).table_names()


def galleries(folder: Path) -> list[str]:
    """Names of the galleries in a folder, sorted."""
    return sorted(path.parent.name for path in folder.glob(f"*/{IMAGES}.lance"))


def writing_lock(address: str) -> FileLock:
    """A lock that one process of this machine holds while it adds to a gallery."""
    if "://" not in address:
        return FileLock(Path(address) / ".lock")
    name = hashlib.sha256(address.encode()).hexdigest()[:16]
    return FileLock(Path(tempfile.gettempdir()) / f"msclnet-gallery-{name}.lock")


def _connect(address: str) -> Any:
    return lancedb.connect(address, read_consistency_interval=FRESH)


def _counts(values: pa.ChunkedArray) -> dict[str, int]:
    counted = {each["values"]: each["counts"] for each in values.value_counts().to_pylist()}
    return {name: counted[name] for name in sorted(filter(None, counted))}


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
