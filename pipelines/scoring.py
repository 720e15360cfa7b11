"""What evaluation and pictures share: embeddings, protocols, and which of the reports is the headline."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from msclnet.errors import UserError
from msclnet.retrieval.protocol import Images, Protocol
from msclnet.retrieval.sysu_mm01 import sysu_mm01_protocol
from pipelines import places
from pipelines.config import Params

REFERENCES = ("random", "colour histogram")  # what needs no learning


def load_embeddings(split: str) -> dict[str, np.ndarray]:
    """Arrays of results/embeddings/<split>.npz.

    Raises:
        UserError: The file is missing or damaged.
    """
    path = places.embeddings_of(split)
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; run `dvc repro embed`") from error
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}); run `dvc repro embed --force`") from error


def test_protocols(params: Params, images: Images) -> Iterator[Protocol]:
    """All combinations of mode, shots and sampler that params.yaml asks for."""
    settings = params.evaluate
    if "official" in settings.samplers and not settings.permutations:
        raise UserError(
            "evaluate.permutations is empty, but evaluate.samplers asks for 'official': give the place of "
            "rand_perm_cam.mat, which comes with SYSU-MM01's evaluation code, or take the sampler 'agw'"
        )
    for sampler in settings.samplers:
        for mode in settings.modes:
            for shots in settings.shots:
                yield sysu_mm01_protocol(
                    images,
                    mode=mode,
                    shots=shots,
                    sampler=sampler,
                    permutations_path=settings.permutations or None,
                    trials=settings.trials,
                    dataset=params.download.dataset,
                )


def headline(reports: list[dict[str, Any]], params: Params) -> list[dict[str, Any]]:
    """Reports of the first mode, number of shots and sampler, the chosen feature first."""
    settings = params.evaluate
    wanted = (settings.modes[0], settings.shots[0], settings.samplers[0])
    chosen = [r for r in reports if (r["mode"], r["shots"], r["sampler"]) == wanted]
    return sorted(chosen, key=lambda report: report["feature"] != settings.feature)
