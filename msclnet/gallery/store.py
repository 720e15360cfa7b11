"""A gallery: a LanceDB table of images with their embeddings, in a folder or an object store, and a table of marks.

Everything about the table's model stands in the metadata of its schema, so that data and description change together.
"""

import hashlib
import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import lancedb
import numpy as np
import pyarrow as pa
from filelock import FileLock
from lancedb.table import LanceTable

from msclnet.errors import UserError

FORMAT = 1  # of the tables; a program refuses a higher one
IMAGES = "images"
MARKS = "marks"
METADATA = b"msclnet.gallery"
_PLACE_IN_RUST = re.compile(r",? *\S+\.rs:\d+:\d+.*")
FRESH = timedelta(seconds=1)  # after this time an open gallery looks for what other processes have written

Modality = Literal["visible", "infrared"]
MODALITIES: tuple[Modality, ...] = ("visible", "infrared")

# What every gallery has; the user's own columns come after them.
COLUMNS = (
    pa.field("id", pa.string(), nullable=False),
    pa.field("path", pa.string(), nullable=False),
    pa.field("sha256", pa.string(), nullable=False),
    pa.field("size", pa.int64(), nullable=False),  # bytes of the file
    pa.field("modified", pa.int64(), nullable=False),  # the file's time, in nanoseconds
    pa.field("camera", pa.string()),
    pa.field("time", pa.timestamp("us")),
    pa.field("modality", pa.string(), nullable=False),
    pa.field("identity", pa.string()),
    pa.field("crop", pa.binary(), nullable=False),  # JPEG of what the network saw
)
VECTOR = "vector"
STANDARD = (*(column.name for column in COLUMNS), VECTOR)
MARK_COLUMNS = pa.schema(
    [
        pa.field("query", pa.string(), nullable=False),  # SHA-256 of the query's file
        pa.field("image", pa.string(), nullable=False),  # id
        pa.field("same", pa.bool_(), nullable=False),
        pa.field("marked", pa.timestamp("us"), nullable=False),  # UTC
        pa.field("query_image", pa.binary()),
    ]
)


@dataclass(frozen=True)
class GalleryModel:
    """The model that a gallery's embeddings are from.

    Attributes:
        digest: SHA-256 of its weights.
        address: Where it was: `models:/NAME/VERSION`, a folder, or a released file.
        height, width: Pixels of the images that it takes.
        dimensions: Numbers of an embedding.
        feature, precision: Which feature, and how it was computed.
        calibration: What `msclnet.retrieval.calibration` fitted for it, ready for JSON; None where nothing was.
    """

    digest: str
    address: str
    height: int
    width: int
    dimensions: int
    feature: str = "bnneck"
    precision: str = "fp32"
    calibration: dict[str, Any] | None = None


@dataclass(frozen=True)
class Match:
    """An image of the gallery that a search found.

    Attributes:
        id, path, camera, time, modality, identity: As stored; None where not known.
        similarity: Cosine, -1 to 1.
        probability: That both images show one person, 0 to 1; None for a model without calibration.
        others: The columns that the user gave.
    """

    id: str
    path: str
    camera: str | None
    time: datetime | None
    modality: str
    identity: str | None
    similarity: float
    probability: float | None
    others: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Mark:
    """A person's judgement of a pair: `same` person or another one; `query` is the SHA-256 of the query's file."""

    query: str
    image: str
    same: bool
    marked: datetime


@dataclass(frozen=True)
class GalleryInfo:
    """What a gallery holds; `images` and `cameras` are counts, `bytes` None for an object store."""

    address: str
    images: int
    modalities: dict[str, int]
    cameras: dict[str, int]
    model: GalleryModel
    created: str
    version: str
    columns: list[str]
    marks: int
    bytes: int | None


class Gallery:
    """An open gallery; made by `Gallery.create` or `Gallery.open`. Threads may share it."""

    def __init__(self, address: str, connection: Any, images: LanceTable) -> None:
        self.address = address
        self._connection = connection
        self._images = images

    @classmethod
    def create(
        cls, address: str | Path, model: GalleryModel, *, others: Sequence[pa.Field] = (), created: str = ""
    ) -> "Gallery":
        """Make an empty gallery.

        Args:
            address: A folder that does not exist yet, or an object store's address such as s3://bucket/name.
            model: Of the embeddings to come.
            others: The user's own columns.
            created: Date and time in ISO format; now if empty.

        Raises:
            UserError: There is one already.
        """
        address = str(address)
        connection = _connect(address)
        if IMAGES in connection.table_names():
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
        """Format, model and date of creation, as stored."""
        return json.loads((self._images.schema.metadata or {}).get(METADATA, b"{}"))

    @property
    def model(self) -> GalleryModel:
        """The model that the embeddings are from."""
        return GalleryModel(**self.metadata["model"])

    @property
    def version(self) -> str:
        """Changes with every change of the images."""
        return str(self._images.version)

    @property
    def others(self) -> list[str]:
        """Names of the user's own columns."""
        return [name for name in self._images.schema.names if name not in STANDARD]

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
            .execute(rows.cast(self._images.schema))
        )

    def remove(self, where: str) -> int:
        """Remove the images that fulfil a condition in SQL, such as `camera = 'c3'`; returns how many.

        Raises:
            UserError: The condition is none.
        """
        with _sql_explained(where, self._images.schema.names):
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

        Returns:
            At most `top` matches, the most similar first, and of equally similar ones by id.

        Raises:
            UserError: The condition is none, or names a column that the gallery does not have.
        """
        vector = np.asarray(vector_D, np.float32)
        query = (
            self._images.search(vector / np.linalg.norm(vector), vector_column_name=VECTOR)
            .distance_type("dot")
            .limit(top)
            .select(
                [name for name in self._images.schema.names if name not in ("crop", VECTOR)] + ["_distance"]
            )
        )
        condition = _condition(where, modality=modality, cameras=cameras, after=after, before=before)
        if condition:
            query = query.where(condition, prefilter=True)
        if exact:
            query = query.bypass_vector_index()
        with _sql_explained(where or "", self._images.schema.names):
            rows = query.to_arrow().to_pylist()
        matches = [self._match(row) for row in rows]
        return sorted(matches, key=lambda match: (-match.similarity, match.id))

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
            query: SHA-256 of the query's file.
            image: id of the gallery's image.
            same: Whether both show one person.
            query_image: The query as the network saw it, JPEG; needed to train on the mark.
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

    def marks(self) -> list[Mark]:
        """All marks, the oldest first."""
        columns = ["query", "image", "same", "marked"]
        rows = self._connection.open_table(MARKS).search().select(columns).to_arrow().to_pylist()
        return sorted((Mark(**row) for row in rows), key=lambda mark: mark.marked)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """For as long as the block runs, no other process of this machine adds to the gallery."""
        with writing_lock(self.address):
            yield

    def _value(self, id: str, column: str) -> Any:
        rows = self._images.search().where(f"id = {quoted(id)}").select([column]).limit(1).to_arrow()
        if not rows.num_rows:
            raise KeyError(id)
        return rows[column][0].as_py()

    def _match(self, row: dict[str, Any]) -> Match:
        return Match(
            **{name: row[name] for name in ("id", "path", "camera", "time", "modality", "identity")},
            similarity=min(1.0, 1 - row["_distance"]),
            probability=None,
            others={name: row[name] for name in self.others},
        )


def schema_of(model: GalleryModel, *, others: Iterable[pa.Field] = (), created: str = "") -> pa.Schema:
    """The schema of the table of images, with the gallery's description in its metadata."""
    description = {
        "format": FORMAT,
        "created": created or datetime.now().astimezone().isoformat(timespec="seconds"),
        "model": asdict(model),
    }
    vector = pa.field(VECTOR, pa.list_(pa.float16(), model.dimensions), nullable=False)
    return pa.schema([*COLUMNS, vector, *others], metadata={METADATA: json.dumps(description)})


def galleries(folder: Path) -> list[str]:
    """Names of the galleries in a folder, sorted."""
    return sorted(path.parent.name for path in folder.glob(f"*/{IMAGES}.lance"))


def quoted(text: str) -> str:
    """A text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def writing_lock(address: str) -> FileLock:
    """A lock that one process of this machine holds while it adds to a gallery."""
    if "://" not in address:
        return FileLock(Path(address) / ".lock")
    name = hashlib.sha256(address.encode()).hexdigest()[:16]
    return FileLock(Path(tempfile.gettempdir()) / f"msclnet-gallery-{name}.lock")


def image_id(path: str, sha256: str) -> str:
    """Id of an image: of its path and its content, the same wherever it is computed."""
    return hashlib.sha256(f"{sha256} {path}".encode()).hexdigest()[:20]


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
