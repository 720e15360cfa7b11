"""Time and memory of two registered networks, measured in turn in one run."""

from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines import settings

if TYPE_CHECKING:
    from msclnet.tracking.registered_model import RegisteredModel
    from msclnet.tracking.server import Server

ROUNDS, IMAGES = 7, 64  # half the images of each modality


def measure_speed(server: "Server", name: str, candidate: str, champion: str) -> dict[str, Any]:
    """Embed the same number of images with both networks in turn, in fp32 on this machine's device.

    Returns:
        `ratio` of the times, the median over the rounds; `device`; and for each of both the median `milliseconds` an
        image and the `mebibytes` that embedding takes in addition to the weights, None where it cannot be read.
    """
    from msclnet.tracking.registered_model import downloaded_model

    device = settings.device()
    with (
        downloaded_model(f"models:/{name}/{candidate}", home=server.home) as first,
        downloaded_model(f"models:/{name}/{champion}", home=server.home) as second,
    ):
        runs = {"candidate": _embedding(first, device), "champion": _embedding(second, device)}
    seconds: dict[str, list[float]] = {who: [] for who in runs}
    peaks: dict[str, list[int | None]] = {who: [] for who in runs}
    for round_number in range(ROUNDS + 1):
        # Each begins every other round: the first of two may find a warmer or colder processor.
        for who in sorted(runs, reverse=bool(round_number % 2)):
            baseline = _reset_peak(device)
            started = perf_counter()
            runs[who]()
            if round_number:  # the first is the warm-up
                seconds[who].append(perf_counter() - started)
                peaks[who].append(_peak(device, baseline))
    ratios = [own / theirs for own, theirs in zip(seconds["candidate"], seconds["champion"], strict=True)]
    measured = {
        who: {
            "milliseconds": round(1000 * median(seconds[who]) / IMAGES, 4),
            "mebibytes": None
            if None in peaks[who]
            else round(median(p for p in peaks[who] if p is not None) / 2**20, 1),
        }
        for who in runs
    }
    return {"ratio": median(ratios), "device": str(device), **measured}


def _embedding(model: "RegisteredModel", device: Any) -> Callable[[], object]:
    """A function that embeds noise of the model's image size: the time does not depend on what is seen."""
    from msclnet.embedding import embed_streams, load_network, torch_embedder

    network = load_network(model.weights, model.spec, device=device)
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, model.height, model.width, 3), np.uint8)
    embed = torch_embedder(network, device=device)
    return lambda: embed_streams(embed, pixels, np.arange(IMAGES) % 2 == 0, batch=IMAGES)


def _reset_peak(device: Any) -> int | None:
    """Begin a measurement of the most memory in use; returns what is in use now, in bytes."""
    if device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    try:
        Path("/proc/self/clear_refs").write_text(
            "5"
        )  # Linux: the peak of the resident set becomes the present one
    except OSError:
        return None
    return _peak(device, 0)


def _peak(device: Any, baseline: int | None) -> int | None:
    if baseline is None:
        return None
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) - baseline
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak,) = (int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    return peak - baseline
