"""Compares the numbers in the stages' outputs with those that must come out."""

import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.rehearsal.expected import Expected
from msclnet.images.table import END
from pipelines.stages import paths

FEATURES = ("bnneck", "pooled", "random", "colour histogram")
FIGURES = ("cmc", "distances", "heatmaps", "top10", "training", "tsne")


class Check(NamedTuple):
    """One number, or one list of them."""

    what: str
    found: Any
    expected: Any

    @property
    def holds(self) -> bool:
        """Whether both are the same."""
        return self.found == self.expected


def checks(project: Path, expected: Expected, *, sampler: str) -> Iterator[Check]:
    """Look at the outputs of every stage, in their order.

    Args:
        project: The folder in which the stages ran.
        expected: What must come out.
        sampler: Of the galleries.

    Raises:
        OSError, KeyError, ValueError: An output is missing or is something else.
    """
    yield from _download(project, expected)
    yield from _preprocess(project, expected)
    yield from _embed(project, expected)
    yield from _evaluate(project, expected, sampler)
    found = sorted(path.stem for path in (project / paths.FIGURES).glob("*.png") if path.stat().st_size)
    yield Check("visualize: figures", found, list(FIGURES))


def _download(project: Path, expected: Expected) -> Iterator[Check]:
    report = _json(project / paths.DOWNLOAD_REPORT)
    if expected.published:
        yield Check("download: compared with the published numbers", report["compared"], True)
        yield Check("download: differences", report["differences"], [])
    test = {
        count["camera"]: (count["identities"], count["images"])
        for count in report["counts"]
        if count["part"] == "test"
    }
    yield Check("download: test identities and images by camera", test, dict(expected.test_cameras))


def _preprocess(project: Path, expected: Expected) -> Iterator[Check]:
    with (project / paths.MANIFEST).open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] != END]
    found = Counter((row["split"], row["modality"]) for row in rows)
    yield Check("preprocess: images by split and modality", dict(found), dict(expected.images))
    # Every picture differs: a file that was read twice or under another's name would be seen here.
    yield Check("preprocess: different files", len({row["sha256"] for row in rows}), len(rows))
    report = _json(project / paths.PREPROCESS_REPORT)
    yield Check("preprocess: unreadable or converted", report["unreadable"] + report["converted"], [])
    for split in ("train", "test"):
        array = np.load(project / paths.images_of(split), mmap_mode="r", allow_pickle=False)
        images = sum(count for (of, _), count in expected.images.items() if of == split)
        shape = (images, report["height"], report["width"], 3)
        yield Check(f"preprocess: array of {split}", (array.shape, str(array.dtype)), (shape, "uint8"))


def _embed(project: Path, expected: Expected) -> Iterator[Check]:
    images = sum(count for (split, _), count in expected.images.items() if split == "test")
    with np.load(project / paths.embeddings_of("test"), allow_pickle=False) as arrays:
        for name in ("pooled", "bnneck"):
            finite = bool(np.isfinite(arrays[name]).all())
            yield Check(f"embed: finite features, {name}", (len(arrays[name]), finite), (images, True))


def _evaluate(project: Path, expected: Expected, sampler: str) -> Iterator[Check]:
    reports = {
        (report["mode"], report["shots"], report["sampler"], report["feature"]): report
        for report in _json(project / paths.METRICS_REPORT)
    }
    wanted = {(*protocol, sampler, feature) for protocol in expected.gallery for feature in FEATURES}
    complete = Check("evaluate: reports", sorted(reports), sorted(wanted))
    yield complete
    if not complete.holds:
        return
    for mode, shots in expected.gallery:
        numbers = (
            expected.queries,
            expected.valid_queries[mode],
            expected.gallery[mode, shots],
            expected.trials,
        )
        names = ("queries", "valid_queries", "gallery", "trials")
        found = {
            tuple(reports[mode, shots, sampler, feature][name] for name in names) for feature in FEATURES
        }
        yield Check(f"evaluate: queries, valid ones, gallery, trials of {mode}-{shots}shot", found, {numbers})


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
