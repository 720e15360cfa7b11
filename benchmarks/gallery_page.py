"""The search page: from an image that is dropped to its results, their pictures included, without the embedding.

The server runs in a process of its own, as `msclnet serve` does. The client asks what the page asks: one search, then
the pictures of the results, six connections at a time as browsers do.
"""

import io
import multiprocessing
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import numpy as np
import uvicorn
from PIL import Image

from benchmarks.made_up_gallery import query_vectors
from benchmarks.networks import jpeg, load
from msclnet.gallery.store import Gallery
from msclnet.images.user_files import SearchModel
from pipelines.gallery.server import make_app
from pipelines.gallery.service import SearchService

CONNECTIONS = 6  # of a browser to one server
RESULTS = 20


def crops(count: int = 100) -> list[bytes]:
    """Pictures of rendered people as a gallery stores them."""
    found = []
    for person in range(count):
        file = io.BytesIO()
        Image.fromarray(load(jpeg(person))).save(file, "JPEG", quality=90)
        found.append(file.getvalue())
    return found


def drops(place: str, count: int, *, turns: int) -> list[float]:
    """Seconds of each drop in a gallery of `count` images; the first, which opens files, is left out."""
    picture = jpeg(0)
    seconds = []
    with (
        served(place, count) as address,
        httpx.Client(base_url=address, timeout=60) as client,
        ThreadPoolExecutor(CONNECTIONS) as pool,
    ):
        for _ in range(turns + 1):
            started = time.perf_counter()
            answer = client.post(
                "/search", params={"modality": "any", "top": RESULTS}, content=picture
            ).json()
            pictures = list(
                pool.map(lambda each: client.get(f"/{each['picture']}").content, answer["results"])
            )
            seconds.append(time.perf_counter() - started - answer["seconds"]["embed"])
            assert len(pictures) == RESULTS
            assert all(pictures)
    return seconds[1:]


@contextmanager
def served(place: str, count: int) -> Iterator[str]:
    """The address of a server of a gallery."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(place, count, port), daemon=True
    )
    process.start()
    address = f"http://127.0.0.1:{port}"
    try:
        while process.is_alive():
            try:
                httpx.get(f"{address}/health")
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.join()


def _serve(place: str, count: int, port: int) -> None:
    queries = iter(np.tile(query_vectors(count), (1000, 1)))

    def embed(images: np.ndarray, infrared: np.ndarray) -> np.ndarray:
        return next(queries)[None]

    gallery = Gallery.open(place)
    model = SearchModel(embed, gallery.model.height, gallery.model.width, {}, digest=gallery.model.digest)
    app = make_app(SearchService(gallery, lambda _: model, name="yard"))
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False)
