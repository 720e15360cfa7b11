"""What the page and the API ask of a gallery: searches, images, heat maps of pairs and marks. Knows no HTTP."""

import base64
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from msclnet.gallery.pair_heatmap import pair_heatmap
from msclnet.gallery.schema import MODALITIES
from msclnet.gallery.store import Gallery
from msclnet.images.decode import decode, resize
from msclnet.images.user_files import SearchModel, contradiction
from pipelines.gallery.queries import Box, KeptQueries, Sought, cut, encoded, is_uploaded, uploaded_id

MOST_RESULTS = 200
EMBEDDED_AT_ONCE = 4
CHAMPION_SECONDS = 60.0  # between two questions to the registry

Judgement = Literal["same", "another"]
JUDGEMENTS: dict[bool, Judgement] = {True: "same", False: "another"}


class UnknownImageError(LookupError):
    """No image of the gallery and no query in memory has this id."""


@dataclass(frozen=True)
class Filters:
    """Which images to find; None and an empty tuple filter nothing."""

    modality: Literal["other", "visible", "infrared", "any"] = "other"
    cameras: tuple[str, ...] = ()
    after: datetime | None = None
    before: datetime | None = None
    top: int = 20
    exact: bool = False


class SearchService:
    """A gallery, its model, and the latest uploaded queries. Threads may share it.

    Args:
        gallery: Open.
        open_model: Loads the model that the embeddings are from; called again when the gallery was rebuilt.
        name: Of the gallery, for people.
        champion: The version of the registry's champion, where there is one.

    Raises:
        UserError: The model cannot be loaded.
    """

    def __init__(
        self,
        gallery: Gallery,
        open_model: Callable[[Gallery], SearchModel],
        *,
        name: str,
        champion: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.gallery = gallery
        self.name = name
        self._open_model = open_model
        self._opening = threading.Lock()
        self._model = open_model(gallery)
        self.metrics = CollectorRegistry()
        self._searches, self._seconds = _measured(self)
        self._champion, self._newest = champion, champion()
        self._asked = time.monotonic()
        self._kept = KeptQueries()
        self._decoding = threading.Lock()  # the largest image takes half a GiB: one at a time
        self._computing = threading.BoundedSemaphore(EMBEDDED_AT_ONCE)

    @property
    def model(self) -> SearchModel:
        """The gallery's model, opened again where the gallery was rebuilt with another one."""
        if self._model.digest != self.gallery.model.digest:
            with self._opening:
                if self._model.digest != self.gallery.model.digest:
                    self._model = self._open_model(self.gallery)
                    self._kept.clear()  # as another network saw them
        return self._model

    def search_upload(
        self, data: bytes, filters: Filters, *, box: Box | None = None, modality: str | None = None
    ) -> dict[str, Any]:
        """Search with an image file, or with a box of it. The modality is proposed by the pixels where none is given.

        Raises:
            UnreadableImageError: The bytes hold no whole image.
            UserError: The box is not within the image.
        """
        start = time.perf_counter()
        model = self.model
        with self._decoding:
            pixels_HW3 = resize(cut(decode(data).pixels, box), height=model.height, width=model.width)
        infrared = modality == "infrared" if modality else bool(contradiction(pixels_HW3, infrared=False))
        with self._computing:
            vector_D = model.embed(pixels_HW3[None], np.array([infrared]))[0]
        sought = Sought(uploaded_id(pixels_HW3, infrared=infrared), pixels_HW3, infrared, vector_D)
        self._kept.keep(sought)
        # Lossless: the page keeps this picture in its address, and a search with it gives the same results.
        picture = base64.b64encode(encoded(pixels_HW3, "WEBP", lossless=True)).decode()
        return self._answer(
            sought,
            filters,
            time.perf_counter() - start,
            picture=f"data:image/webp;base64,{picture}",
            warning=contradiction(pixels_HW3, infrared=infrared),
        )

    def search_image(self, id: str, filters: Filters) -> dict[str, Any]:
        """Search with an image of the gallery, which is left out of the results.

        Raises:
            UnknownImageError: There is no such image.
        """
        start = time.perf_counter()
        sought = self._stored(id)
        return self._answer(sought, filters, time.perf_counter() - start, picture=f"images/{id}")

    def image(self, id: str) -> bytes:
        """JPEG of an image of the gallery.

        Raises:
            UnknownImageError: There is no such image.
        """
        try:
            return self.gallery.image(id)
        except KeyError:
            raise UnknownImageError(f"{id}: the gallery has no such image") from None

    def heatmap(self, query: str, id: str) -> bytes:
        """Both images under the heat map of the pair next to each other, the query on the left: a PNG.

        Raises:
            UnknownImageError: There is no such image, or the query is no longer in memory.
        """
        first, second = self._sought(query), self._stored(id)
        images_2HW3 = np.stack([first.pixels_HW3, second.pixels_HW3])
        with self._computing:
            picture = pair_heatmap(self.model.network, images_2HW3, (first.infrared, second.infrared))
        return encoded(picture, "PNG")

    def marks(self) -> list[dict[str, Any]]:
        """All marks, the oldest first, ready for JSON."""
        return [
            {
                "query": each.query,
                "image": each.image,
                "mark": JUDGEMENTS[each.same],
                "marked": each.marked.isoformat(timespec="seconds"),
            }
            for each in self.gallery.marks.all()
        ]

    def mark(self, query: str, id: str, mark: Judgement | None) -> None:
        """Keep whether two images show one person; None removes the mark.

        An uploaded query is stored with the mark, as the network sees it: without it nobody could train on the mark.

        Raises:
            UnknownImageError: There is no such image, or the query is no longer in memory.
        """
        if mark is None:
            self.gallery.marks.remove(query, id)
            return
        self._stored(id)
        sought = self._sought(query)
        picture = encoded(sought.pixels_HW3, "PNG") if is_uploaded(query) else None
        self.gallery.marks.set(query, id, mark == "same", query_image=picture)

    def describe(self) -> dict[str, Any]:
        """What the page says about the gallery, ready for JSON."""
        found = self.gallery.info()
        fitted = found.model.calibration
        # A model that was trained on the user's own images is at home in a gallery of them, and only there.
        elsewhere = fitted["dataset"] if fitted and fitted["dataset"] != "folder" else None
        return {"name": self.name, **asdict(found), "newer": self._newer(), "fitted_elsewhere": elsewhere}

    def _answer(
        self, sought: Sought, filters: Filters, seconds: float, *, picture: str, warning: str = ""
    ) -> dict[str, Any]:
        start = time.perf_counter()
        modality = MODALITIES[not sought.infrared] if filters.modality == "other" else filters.modality
        matches = self.gallery.search(
            sought.vector_D,
            top=filters.top + 1,
            modality=None if modality == "any" else modality,
            cameras=filters.cameras,
            after=filters.after,
            before=filters.before,
            exact=filters.exact,
            query_modality=MODALITIES[sought.infrared],
        )
        took = time.perf_counter() - start
        self._searches.inc()
        self._seconds.labels("embed").observe(seconds)
        self._seconds.labels("search").observe(took)
        marks = {
            each.image: JUDGEMENTS[each.same] for each in self.gallery.marks.all() if each.query == sought.id
        }
        others = [match for match in matches if match.id != sought.id][: filters.top]
        return {
            "query": {
                "id": sought.id,
                "uploaded": is_uploaded(sought.id),
                "modality": MODALITIES[sought.infrared],
                "warning": warning,
                "picture": picture,
            },
            "modality": modality,
            "results": [
                {
                    "rank": rank,
                    **asdict(match),
                    "picture": f"images/{match.id}",
                    "mark": marks.get(match.id),
                }
                for rank, match in enumerate(others, start=1)
            ],
            "seconds": {"embed": seconds, "search": took},
        }

    def _stored(self, id: str) -> Sought:
        record = self.gallery.records([id]).get(id)
        if record is None:
            raise UnknownImageError(f"{id}: the gallery has no such image")
        pixels_HW3 = decode(self.gallery.image(id)).pixels
        return Sought(id, pixels_HW3, record["modality"] == "infrared", self.gallery.vector(id))

    def _sought(self, id: str) -> Sought:
        """An image of the gallery, or an uploaded one that is still in memory."""
        if not is_uploaded(id):
            return self._stored(id)
        if (found := self._kept.get(id)) is None:
            raise UnknownImageError(f"{id}: this query is no longer in memory; search with its image again")
        return found

    def _newer(self) -> str | None:
        """The version of the registry's champion where it is newer than the gallery's model, as last heard."""
        if time.monotonic() - self._asked >= CHAMPION_SECONDS:
            self._asked = time.monotonic()
            threading.Thread(target=self._ask_registry, daemon=True).start()
        _, _, version = self.gallery.model.address.rpartition("/")
        return (
            self._newest if self._newest and version.isdigit() and int(self._newest) > int(version) else None
        )

    def _ask_registry(self) -> None:
        self._newest = self._champion()


def _measured(service: SearchService) -> tuple[Counter, Histogram]:
    """What Prometheus is told: searches, their seconds, images, queries in memory, and the process's own figures."""
    registry = service.metrics
    ProcessCollector(registry=registry)
    images = Gauge("msclnet_gallery_images", "Images in the gallery", registry=registry)
    images.set_function(lambda: len(service.gallery))
    kept = Gauge("msclnet_queries_in_memory", "Uploaded queries in memory", registry=registry)
    kept.set_function(lambda: len(service._kept))
    seconds = "Seconds of a search: embed decodes and embeds the query, search asks the table"
    return (
        Counter("msclnet_searches", "Searches that were answered", registry=registry),
        Histogram("msclnet_search_seconds", seconds, ["part"], registry=registry),
    )
