"""Embedding: every installed back end next to the textbook network with the same weights."""

from functools import partial
from statistics import median

import torch

from benchmarks.networks import (
    Embedder,
    check,
    our_embedders,
    people,
    textbook_function,
    trained_like_network,
)
from benchmarks.tables import Row, Section, Target, network_row
from benchmarks.timing import NO_BF16, Settings, count_operations, textbook_ways, with_products
from msclnet.precision import native_bf16
from pipelines import settings as machine

BATCH = {"cpu": 32, "cuda": 256}
QUICK_BATCH = 16
BUDGET = 100.0  # seconds
TIMES, SHARE = 3.0, 85.0
REFERENCE = "textbook, fp32 contiguous"


def run(settings: Settings) -> Section:
    """Check that all ways agree, then time them in turns."""
    on = machine.device()
    images = people(QUICK_BATCH if settings.quick else BATCH[on.type], height=settings.height)
    network = trained_like_network(images, device=on)
    with textbook_ways(REFERENCE, textbook_function, device=on, images=images) as ways:
        expected = ways[REFERENCE]()
        embedders = [Embedder(name, "fp32", None) for name in ways] + list(
            our_embedders(network, device=on, height=settings.height)
        )
        notes: dict[str, str] = {}
        for embedder in embedders:
            if embedder.embed is not None:
                ways[embedder.name] = partial(embedder.embed, images)
                agreed = check(embedder.name, embedder.precision, expected, embedder.embed(images))
                notes[embedder.name] = f"agrees to {agreed:.6f}"
        timings, rates = with_products(ways, device=on, turns=settings.turns(9), budget=BUDGET)
    with torch.no_grad():
        uint8 = torch.from_numpy(images).to(on)
        operations = count_operations(lambda: network.embed(uint8, infrared=True), precision="fp32")["fp32"]
    rows = [
        Row(name=embedder.name, note=embedder.reason)
        if embedder.name not in ways
        else network_row(
            embedder.name,
            timings,
            images=len(images),
            reference=REFERENCE,
            operations={embedder.precision: operations},
            rates=rates,
            note=notes.get(embedder.name, ""),
        )
        for embedder in embedders
    ]
    ours = [row for row in rows if row.times and row.name.startswith("ours")]
    best = max(ours, key=lambda row: row.times or 0.0)
    found = (best.times, 100 * (best.share or 0.0)) if native_bf16(on) else (None, None)
    what = (
        f"embedding ({best.name}), times the textbook's",
        f"embedding ({best.name}), share of the product limit",
    )
    return Section(
        key="embedding",
        title="Embedding",
        text=(
            f"ResNet-50, {settings.height} x {settings.height // 2}, last stride 1, {len(images)} images of one "
            "modality at a time, arrays in and arrays out. The textbook starts from normalised floats and has a plain "
            "process of its own, ours starts from uint8 in a process that is set up as the stages are, which keeps "
            "freed memory. `memory kept`: the textbook's process does so as well. `folded`: batch norms folded into "
            "the convolutions. `agrees`: the lowest cosine between a feature and the textbook's, both less the mean "
            "over the images. The limit is the time of the products alone at the rate of the fastest square product "
            "of the same precision in the same turns."
        ),
        reference=REFERENCE,
        rows=rows,
        targets=[
            Target(what[0], found[0], TIMES, least=True, unit="x", reason=NO_BF16),
            Target(what[1], found[1], SHARE, least=True, unit="%", reason=NO_BF16),
        ],
        limits={f"{precision} product, GFLOP/s": median(rate) / 1e9 for precision, rate in rates.items()},
    )
