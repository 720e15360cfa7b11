"""A gallery: a LanceDB table of images with their embeddings, in a folder or an object store, and a table of marks.

Everything about the table's model stands in the metadata of its schema, so that data and description change together.
"""

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
from filelock import FileLock
from lancedb.table import LanceTable

from msclnet.errors import UserError
from msclnet.gallery.schema import (
    FORMAT,
    IMAGES,
    MARK_COLUMNS,
    MARKS,
    METADATA,
    REFUSED,
    REFUSED_COLUMNS,
    STANDARD,
    VECTOR,
    GalleryInfo,
    GalleryModel,
    Mark,
    Match,
    description_of,
    match_of,
    quoted,
    schema_of,
)

REBUILT = "images_rebuilt"  # while a gallery is being rebuilt
BATCH_ROWS = 4096  # at a time where a whole table is read
KEPT = timedelta(hours=1)  # how long files of former versions stay, for those who are reading them
FRESH = timedelta(seconds=1)  # after this time an open gallery looks for what other processes have written

_PLACE_IN_RUST = re.compile(r",? *\S+\.rs:\d+:\d+.*")


class Gallery:
    """An open gallery; made by `Gallery.create` or `Gallery.open`. Threads may share it."""

    def __init__(self, address: str, connection: Any, images: LanceTable) -> None:
        self.address = address
        self._connection = connection
        self._images = images

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

    @property
    def metadata(self) -> dict[str, Any]:
        """Format, model, date of creation and settings of the index, as stored."""
        return description_of(self.schema)

    @property
    def model(self) -> GalleryModel:
        """The model that the embeddings are from."""
        return GalleryModel(**self.metadata["model"])

    @property
    def version(self) -> str:
        """Changes with every change of the images."""
        return str(self._images.version)

    @property
    def table(self) -> LanceTable:
        """The table of images itself, for what LanceDB does alone."""
        return self._images

    @property
    def schema(self) -> pa.Schema:
        """Of the table of images."""
        return self._images.schema

    @property
    def others(self) -> list[str]:
        """Names of the user's own columns."""
        return [name for name in self.schema.names if name not in STANDARD]

    def renew_description(self, **values: Any) -> None:
        """Change what is kept of the gallery as a whole, such as `model`, whose calibration may be new, or `index`."""
        description = json.dumps({**self.metadata, **values})
        self._images.to_lance().update_schema_metadata({METADATA.decode(): description})
        self._images.checkout_latest()

    def check_model(self, digest: str) -> None:
        """Refuse another model than the one that the embeddings are from.

        Args:
            digest: SHA-256 of the model's weights.

        Raises:
            UserError: It is another one.
        """
        if digest != self.model.digest:
            raise UserError(
                f"{self.address}: its embeddings are from the model {self.model.digest[:12]} ({self.model.address}), "
                f"not {digest[:12]}; `msclnet gallery rebuild` embeds the gallery again with another model"
            )

    def __len__(self) -> int:
        return self._images.count_rows()

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

    def batches(self, columns: Sequence[str], where: str | None = None) -> Iterator[pa.RecordBatch]:
        """All rows, some at a time; never the whole table in memory."""
        query = self._images.search().select(list(columns))
        yield from (query.where(where) if where else query).to_batches(BATCH_ROWS)

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
        with _sql_explained(where, self.schema.names):
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
            marks=self._connection.open_table(MARKS).count_rows(),
            bytes=None if "://" in self.address else _bytes_below(Path(self.address)),
        )

    def search(
        self,
        vector_D: np.ndarray,
        *,
        top: int,
        where: str | None = None,
        modality: str | None = None,
        cameras: Sequence[str] | None = None,
        after: datetime | None = None,
        before: datetime | None = None,
        exact: bool = False,
        query_modality: str | None = None,
    ) -> list[Match]:
        """The images that are most similar to an embedding; filters are applied before the search.

        Args:
            vector_D: float (D,), of any length greater than zero.
            top: Most images to return, 1 or more.
            where: A condition in SQL on any column.
            modality: `visible` or `infrared`; None for both.
            cameras: None or empty for all.
            after, before: Earliest and latest time, both included; images without a time are left out.
            exact: Compare with every image, also where there is an index.
            query_modality: Of the query; needed for probabilities.

        Returns:
            At most `top` matches, the most similar first, and of equally similar ones by id.

        Raises:
            UserError: The condition is none, or names a column that the gallery does not have.
        """
        vector = np.asarray(vector_D, np.float32)
        schema = self.schema
        description = description_of(schema)
        columns = [name for name in schema.names if name not in ("crop", VECTOR)]
        query = (
            self._images.search(vector / np.linalg.norm(vector), vector_column_name=VECTOR)
            .distance_type("dot")
            .limit(top)
            .select([*columns, "_distance"])
        )
        condition = _condition(where, modality=modality, cameras=cameras, after=after, before=before)
        if condition:
            query = query.where(condition, prefilter=True)
        index = description.get("index")
        if exact or index is None:
            query = query.bypass_vector_index()
        else:
            # What a narrow filter leaves may lie in any partition, and it is little to compare.
            narrow = bool(where or cameras or after or before)
            query = query.nprobes(index["partitions" if narrow else "probes"]).refine_factor(index["refined"])
        with _sql_explained(where or "", schema.names):
            rows = query.to_arrow().to_pylist()
        model = GalleryModel(**description["model"])
        others = [name for name in columns if name not in STANDARD]
        matches = [match_of(row, others, model, query_modality) for row in rows]
        return sorted(matches, key=lambda match: (-match.similarity, match.id))

    def records(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """What is stored of images, by id and column, without crop and embedding; an unknown id is missing."""
        if not ids:
            return {}
        columns = [name for name in self.schema.names if name not in ("crop", VECTOR)]
        condition = f"id IN ({', '.join(map(quoted, ids))})"
        rows = self._images.search().where(condition).select(columns).limit(len(ids)).to_arrow().to_pylist()
        return {row["id"]: row for row in rows}

    def image(self, id: str) -> bytes:
        """JPEG of an image as the network saw it.

        Raises:
            KeyError: There is no such id.
        """
        return self._value(id, "crop")

    def vector(self, id: str) -> np.ndarray:
        """Embedding of an image, float16 (D,), L2-normalised.

        Raises:
            KeyError: There is no such id.
        """
        return np.asarray(self._value(id, VECTOR), np.float16)

    def mark(self, query: str, image: str, same: bool, *, query_image: bytes | None = None) -> None:
        """Keep a person's judgement of a pair; a later one of the same pair takes its place.

        Args:
            query: id of an image of the gallery, or a name of an uploaded query: the same for the same pixels.
            image: id of the gallery's image.
            same: Whether both show one person.
            query_image: An uploaded query as the network saw it, an image file; needed to train on the mark.
        """
        row = {
            "query": query,
            "image": image,
            "same": same,
            "marked": datetime.now(UTC).replace(tzinfo=None),
            "query_image": query_image,
        }
        (
            self._connection.open_table(MARKS)
            .merge_insert(["query", "image"])
            .when_matched_update_all()
            .when_not_matched_insert_all()
            .execute(pa.Table.from_pylist([row], schema=MARK_COLUMNS))
        )

    def unmark(self, query: str, image: str) -> None:
        """Remove the judgement of a pair, where there is one, and with it an uploaded query that has no other."""
        condition = f"query = {quoted(query)} AND image = {quoted(image)}"
        self._connection.open_table(MARKS).delete(condition)

    def query_images(self) -> dict[str, bytes]:
        """The uploaded queries of all marks, image files by their names."""
        rows = (
            self._connection.open_table(MARKS)
            .search()
            .select(["query", "query_image"])
            .to_arrow()
            .to_pylist()
        )
        return {row["query"]: row["query_image"] for row in rows if row["query_image"]}

    def marks(self) -> list[Mark]:
        """All marks, the oldest first."""
        columns = ["query", "image", "same", "marked"]
        rows = self._connection.open_table(MARKS).search().select(columns).to_arrow().to_pylist()
        return sorted((Mark(**row) for row in rows), key=lambda mark: mark.marked)

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

    def _value(self, id: str, column: str) -> Any:
        rows = self._images.search().where(f"id = {quoted(id)}").select([column]).limit(1).to_arrow()
        if not rows.num_rows:
            raise KeyError(id)
        return rows[column][0].as_py()


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


def _condition(
    where: str | None,
    *,
    modality: str | None,
    cameras: Sequence[str] | None,
    after: datetime | None,
    before: datetime | None,
) -> str:
    parts = [f"({where})"] if where else []
    if modality:
        parts.append(f"modality = {quoted(modality)}")
    if cameras:
        parts.append(f"camera IN ({', '.join(map(quoted, cameras))})")
    if after:
        parts.append(f"time >= timestamp '{after:%Y-%m-%d %H:%M:%S.%f}'")
    if before:
        parts.append(f"time <= timestamp '{before:%Y-%m-%d %H:%M:%S.%f}'")
    return " AND ".join(parts)


@contextmanager
def _sql_explained(where: str, columns: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except (ValueError, RuntimeError) as error:
        if not where:
            raise
        reason = _PLACE_IN_RUST.sub("", str(error).splitlines()[0])
        shown = ", ".join(name for name in columns if name not in ("crop", VECTOR))
        raise UserError(
            f"--where {where}: {reason}; give a condition in SQL such as \"camera = 'c3'\" on the columns {shown}"
        ) from error


def _counts(values: pa.ChunkedArray) -> dict[str, int]:
    counted = {each["values"]: each["counts"] for each in values.value_counts().to_pylist()}
    return {name: counted[name] for name in sorted(filter(None, counted))}


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
