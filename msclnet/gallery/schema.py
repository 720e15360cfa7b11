"""What a gallery's tables hold: columns, the description of the model, and what a search returns."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal, cast

import pyarrow as pa

from msclnet.retrieval.calibration import Calibration, Pairs

FORMAT = 1  # of the tables; a program refuses a higher one
IMAGES = "images"
MARKS = "marks"
REFUSED = "refused"
METADATA = b"msclnet.gallery"

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
        pa.field("query", pa.string(), nullable=False),  # id of an image here, or a name of an uploaded one
        pa.field("image", pa.string(), nullable=False),  # id
        pa.field("same", pa.bool_(), nullable=False),
        pa.field("marked", pa.timestamp("us"), nullable=False),  # UTC
        pa.field("query_image", pa.binary()),
    ]
)
REFUSED_COLUMNS = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("camera", pa.string()),
        pa.field(
            "time", pa.timestamp("us"), nullable=False
        ),  # of the image, else when it was refused, in UTC
        pa.field("reason", pa.string(), nullable=False),
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

    def probability(self, similarity: float, query_modality: str | None, modality: str) -> float | None:
        """That two images show one person, 0 to 1; None where no curve was fitted for such a pair."""
        pairs = cast(Pairs, "cross-modal" if query_modality != modality else modality)
        if query_modality is None or self.calibration is None or pairs not in self.calibration["fits"]:
            return None
        return float(Calibration.from_json(self.calibration).probability(similarity, pairs))


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
    """A person's judgement of a pair: `same` person or another one; `query` as for `Gallery.mark`."""

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


def schema_of(
    model: GalleryModel,
    *,
    others: Iterable[pa.Field] = (),
    created: str = "",
    rebuilt_from: str | None = None,
) -> pa.Schema:
    """The schema of the table of images, with the gallery's description in its metadata.

    Args:
        model: Of the embeddings.
        others: The user's own columns.
        created: Date and time in ISO format; now if empty.
        rebuilt_from: Version of the gallery that this one is to replace.
    """
    description = {
        "format": FORMAT,
        "created": created or datetime.now().astimezone().isoformat(timespec="seconds"),
        "model": asdict(model),
        "rebuilt_from": rebuilt_from,
        "index": None,
    }
    vector = pa.field(VECTOR, pa.list_(pa.float16(), model.dimensions), nullable=False)
    return pa.schema([*COLUMNS, vector, *others], metadata={METADATA: json.dumps(description)})


def description_of(schema: pa.Schema) -> dict[str, Any]:
    """What the metadata of the table of images says of the gallery as a whole; empty for another table."""
    return json.loads((schema.metadata or {}).get(METADATA, b"{}"))


def quoted(text: str) -> str:
    """A text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def image_id(path: str, sha256: str) -> str:
    """Id of an image: of its path and its content, the same wherever it is computed."""
    return hashlib.sha256(f"{sha256} {path}".encode()).hexdigest()[:20]


def match_of(
    row: dict[str, Any], others: Sequence[str], model: GalleryModel, query_modality: str | None
) -> Match:
    similarity = min(1.0, 1 - row["_distance"])
    return Match(
        **{name: row[name] for name in ("id", "path", "camera", "time", "modality", "identity")},
        similarity=similarity,
        probability=model.probability(similarity, query_modality, row["modality"]),
        others={name: row[name] for name in others},
    )
