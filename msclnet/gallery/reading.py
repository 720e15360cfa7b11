"""The table of a gallery's images as it is read: what is stored of an image, and which images are most similar."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from lancedb.table import LanceTable

from msclnet.errors import UserError
from msclnet.gallery.schema import (
    STANDARD,
    VECTOR,
    GalleryModel,
    Match,
    description_of,
    match_of,
    quoted,
)

BATCH_ROWS = 4096  # at a time where a whole table is read

_PLACE_IN_RUST = re.compile(r",? *\S+\.rs:\d+:\d+.*")


class StoredImages:
    """An open table of images. Threads may share it."""

    def __init__(self, address: str, images: LanceTable) -> None:
        self.address = address
        self._images = images

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

    def batches(self, columns: Sequence[str], where: str | None = None) -> Iterator[pa.RecordBatch]:
        """All rows, some at a time; never the whole table in memory."""
        query = self._images.search().select(list(columns))
        yield from (query.where(where) if where else query).to_batches(BATCH_ROWS)

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
        with sql_explained(where or "", schema.names):
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

    def _value(self, id: str, column: str) -> Any:
        rows = self._images.search().where(f"id = {quoted(id)}").select([column]).limit(1).to_arrow()
        if not rows.num_rows:
            raise KeyError(id)
        return rows[column][0].as_py()


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
def sql_explained(where: str, columns: Sequence[str]) -> Iterator[None]:
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
