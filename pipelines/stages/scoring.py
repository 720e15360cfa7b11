"""What evaluation and pictures share: embeddings, protocols, and which of the reports is the headline."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from msclnet.retrieval.evaluation import RANKS, query_exclusion
from msclnet.retrieval.protocols import (
    INFRARED_TO_VISIBLE,
    VISIBLE_TO_INFRARED,
    Exclusion,
    Images,
    Protocol,
    folder_protocols,
    llcm_protocol,
    regdb_protocol,
    sysu_mm01_protocol,
)
from pipelines import settings
from pipelines.stages import paths
from pipelines.stages.config import Params
from pipelines.stages.paths import read_arrays

Report = dict[str, Any]
BOTH = (VISIBLE_TO_INFRARED, INFRARED_TO_VISIBLE)  # in the order of the tables in papers
REFERENCES = ("random", "colour histogram")  # what needs no learning
METRICS = (*(f"rank{k}" for k in RANKS), "mAP", "mINP")  # of a report


def load_embeddings(split: str) -> dict[str, np.ndarray]:
    """Arrays of results/embeddings/<split>.npz."""
    return read_arrays(paths.embeddings_of(split), stage="embed")


def exclusion(params: Params) -> Exclusion | None:
    """What a query ignores."""
    return query_exclusion(params.download.dataset, same_camera=params.evaluate.same_camera)


def test_protocols(params: Params, images: Images) -> Iterator[Protocol]:
    """The data set's own protocols, the headline's first: both directions, or all combinations of SYSU-MM01's."""
    dataset, asked = params.download.dataset, params.evaluate
    if dataset == "regdb":
        yield from (regdb_protocol(images, direction=direction) for direction in BOTH)
    elif dataset == "llcm":
        yield from (llcm_protocol(images, direction=direction, trials=asked.trials) for direction in BOTH)
    elif dataset == "folder":
        exclude = exclusion(params)
        yield from folder_protocols(images, directions=BOTH, exclude=exclude, trials=asked.trials)
    else:
        for sampler, mode, shots in product(asked.samplers, asked.modes, asked.shots):
            yield sysu_mm01_protocol(
                images,
                mode=mode,
                shots=shots,
                sampler=sampler,
                permutations_path=settings.project() / asked.permutations,
                trials=asked.trials,
                dataset=dataset,
            )


def protocol_name(report: Report) -> str:
    """Short name of a report's protocol, such as `all-1shot-agw` or `visible-to-infrared`."""
    shots = f"{report['shots']}shot" if report["shots"] else None
    # SYSU-MM01 has one direction, which its names leave out.
    direction = None if report["mode"] else report["direction"]
    reranked = "reranked" if report["re_ranking"] else None
    parts = (report["mode"], shots, report["sampler"], direction, reranked)
    return "-".join(part for part in parts if part)


def protocol_title(report: Report) -> str:
    """The protocol behind a report's numbers, for a table or a picture."""
    parts = [report["dataset"]]
    if report["split"]:
        parts.append(f"split {report['split']}")
    if report["mode"]:
        parts.append(f"{report['mode']} search")
    if report["shots"]:
        parts.append(f"{report['shots']}-shot, sampler {report['sampler']}")
    if (report.get("embedding") or {}).get("precision") == "bf16":
        parts.append("embedded in bf16")
    return ", ".join(parts)


def trials(report: Report) -> str:
    """How many galleries the figures are means over; where nothing is drawn, every image is in the one there is."""
    if not report["sampler"]:
        return "whole gallery"
    return f"{report['trials']} trial{'s' * (report['trials'] > 1)}"


def processing(report: Report) -> str:
    """What was done to features and distances beyond the protocol, and what was not."""
    return f"{mirroring(report)}, {re_ranking(report)}"


def mirroring(report: Report) -> str:
    """Whether features are averaged with those of the mirror images."""
    return "mirror images averaged" if report["flip"] else "no mirror images"


def re_ranking(report: Report) -> str:
    """Whether and how the distances were re-ranked."""
    applied = report["re_ranking"]
    if not applied:
        return "no re-ranking"
    return f"k-reciprocal re-ranking ({', '.join(f'{name} {value}' for name, value in applied.items())})"


def headline(reports: list[Report], params: Params) -> list[Report]:
    """Reports of the first protocol, the chosen feature first."""
    first = protocol_name(reports[0])
    chosen = [report for report in reports if protocol_name(report) == first]
    return sorted(chosen, key=lambda report: report["feature"] != params.evaluate.feature)
