"""Time and memory of two registered networks, measured in turn in one run."""

import os
from collections.abc import Callable
from itertools import accumulate
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
        image and the `mebibytes` that embedding takes at most in addition to the weights.
    """
    from msclnet.tracking.registered_model import downloaded_model

    device = settings.device()
    with (
        downloaded_model(f"models:/{name}/{candidate}", home=server.home) as first,
        downloaded_model(f"models:/{name}/{champion}", home=server.home) as second,
    ):
        runs = {"candidate": _embedding(first, device), "champion": _embedding(second, device)}
    memory = {who: peak_memory(run, device) for who, run in runs.items()}  # and the warm-up
    seconds: dict[str, list[float]] = {who: [] for who in runs}
    for round_number in range(ROUNDS):
        # Each begins every other round: the first of two may find a warmer or colder processor.
        for who in sorted(runs, reverse=bool(round_number % 2)):
            started = perf_counter()
            runs[who]()
            seconds[who].append(perf_counter() - started)
    ratios = [own / theirs for own, theirs in zip(seconds["candidate"], seconds["champion"], strict=True)]
    measured = {
        who: {
            "milliseconds": round(1000 * median(seconds[who]) / IMAGES, 4),
            "mebibytes": round(memory[who] / 2**20, 2),
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


def peak_memory(work: Callable[[], object], device: Any) -> int:
    """The most bytes of tensors that `work` has at a time in addition to those that it begins with."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # else the profiler reports that there is no GPU
    import torch
    from torch.profiler import ProfilerActivity, profile

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    # The resident set would not do: what the allocator keeps for later hides the next peak.
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as traced:
        work()
    events: Any = traced.profiler.kineto_results.events()  # pyright: ignore[reportOptionalMemberAccess]
    changes = sorted((each for each in events if each.name() == "[memory]"), key=lambda each: each.start_ns())
    return max(accumulate(each.nbytes() for each in changes), default=0)
