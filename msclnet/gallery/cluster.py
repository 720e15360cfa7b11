"""Embeds images with Ray Data: on a cluster, or with several processes of this machine."""

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from msclnet.errors import UserError
from msclnet.gallery.embedding import BATCH, embed_in_threads, prepare_file
from msclnet.gallery.sources import Source
from msclnet.images.user_files import SearchModel, Unreadable

LOCAL = "ray"


class _Worker:
    """A process of the cluster with its own copy of the model; takes and gives one row for each batch of images."""

    def __init__(self, open_model: Callable[[], SearchModel], schema: pa.Schema) -> None:
        self.model = open_model()
        self.schema = schema

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        sources = [Source(path, given) for path, given in zip(batch["path"], batch["given"], strict=True)]
        prepare = partial(prepare_file, height=self.model.height, width=self.model.width)
        parts = [*embed_in_threads(sources, prepare, self.model, self.schema, threads=1, batch=len(sources))]
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.schema) as writer:
            writer.write_table(pa.concat_tables([rows for rows, _ in parts]))
        refused = [(str(each.path), each.reason) for _, several in parts for each in several]
        return {"rows": [sink.getvalue().to_pybytes()], "refused": [json.dumps(refused)]}


def embed_on_ray(
    sources: Iterable[Source],
    open_model: Callable[[], SearchModel],
    schema: pa.Schema,
    *,
    address: str = LOCAL,
    batch: int = BATCH,
) -> Iterator[tuple[pa.Table, list[Unreadable]]]:
    """Embed images on a Ray cluster; the batches of a worker that dies are given to another one.

    Args:
        sources: Their paths are those of the workers too: the images lie on a shared disk.
        open_model: Called once by each worker; what it closes over is sent there.
        schema: The gallery's.
        address: `ray`: the cluster of the variable RAY_ADDRESS, else a new one on this machine. `ray://HOST:PORT`: that
            cluster.
        batch: Images at a time through the network.

    Yields:
        Rows of the gallery, and the files that were refused, in any order.

    Raises:
        UserError: Ray is not installed, or there is no such cluster.
    """
    ray, started = _connect(address)
    try:
        resources = ray.cluster_resources()
        kind = "GPU" if resources.get("GPU") else "CPU"
        workers = max(1, int(resources[kind]))
        items = [{"path": source.path, "given": source.given} for source in sources]
        embedded = (
            ray.data.from_items(items, override_num_blocks=max(1, min(len(items) // batch, 4 * workers)))
            .map_batches(
                _Worker,
                fn_constructor_args=(open_model, schema),
                batch_size=batch,
                batch_format="numpy",
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),
                num_gpus=int(kind == "GPU"),
            )
            .iter_rows()
        )
        for row in embedded:
            refused = [Unreadable(Path(path), reason) for path, reason in json.loads(row["refused"])]
            yield pa.ipc.open_stream(row["rows"]).read_all(), refused
    finally:
        if started:
            ray.shutdown()


def _connect(address: str) -> tuple[Any, bool]:
    """The package, and whether this process was not connected before."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UserError(
            f"--on {address}: needs the package ray, which cannot be imported ({error}); install this project's extra "
            "'cluster': pip install -e '.[cluster]' -c constraints.txt"
        ) from error
    try:
        if started := not ray.is_initialized():
            ray.init(None if address == LOCAL else address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError) as error:
        raise UserError(
            f"--on {address}: no Ray cluster answers ({error}); give ray or ray://HOST:10001"
        ) from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    return ray, started
