"""RegDB's ten splits: ten experiments that differ in nothing but the split, and what they come to together.

A model is scored on its own split and on no other, by construction: each split is a whole run of the pipeline, in
which `preprocess.regdb_split` decides both whom `train` learns from and whom `embed` and `evaluate` are given.
There is no way to hand a trained model to another split's test images. `read_split` checks it once more by the labels
of the reports.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msclnet.errors import UserError
from pipelines.orchestration.cells import Cell, check_cells
from pipelines.orchestration.overrides import flatten
from pipelines.orchestration.runs import ExperimentResult, Validate
from pipelines.orchestration.side_by_side import Outcome
from pipelines.regdb_finished import (
    SPLIT_KEY,
    SPLITS,
    FinishedSplit,
    earlier_splits,
    experiment_name,
    read_split,
)
from pipelines.regdb_summary import rows_of, summarise, write_summary

PRESET = "regdb"
_NAME_LENGTH = 60
_SHOWN = 5

SplitOutcome = Outcome[Cell, ExperimentResult]


@dataclass(frozen=True)
class Conclusion:
    """What the splits came to.

    Attributes:
        rows: for a table: a row for each split, then mean and deviation.
        written: the files of the summary, relative to the project; none where nothing was evaluated.
        failure: why the whole is not complete, or empty.
        mistaken: whether the failure is the user's to repair, and no crash.
    """

    rows: list[dict[str, str]]
    written: list[Path]
    failure: str
    mistaken: bool


def split_cells(
    root: Path,
    *,
    preset: str = PRESET,
    splits: Sequence[int] = SPLITS,
    overrides: Mapping[str, Any] | None = None,
    until: str | None = None,
    name: str | None = None,
    validate: Validate | None = None,
) -> list[Cell]:
    """One cell for each split, all mistakes found before anything runs.

    Args:
        root: the project.
        preset: a file of presets/ whose data set is RegDB.
        splits: numbers of the splits, 1 to 10.
        overrides: values of params.yaml by dotted key, for every split.
        until: last stage; default: all.
        name: what the experiments' names begin with; default: made of the preset and the overrides, so that other
            settings get other names.
        validate: called with each cell's params file; raises UserError.

    Raises:
        UserError: a mistake in the arguments or parameters, or experiments of these names with other parameters.
    """
    overrides, splits = flatten(overrides or {}), list(dict.fromkeys(splits))
    if wrong := [split for split in splits if split not in SPLITS]:
        raise UserError(f"RegDB has the splits 1 to 10, and no {wrong[0]}")
    if not splits:
        raise UserError("no split is named: give some of 1 to 10, or leave them out for all ten")
    if SPLIT_KEY in overrides:
        raise UserError(f"{SPLIT_KEY} is set for each split here: name the splits instead of overriding it")
    name = name or _readable(preset, overrides)
    cells = [
        Cell(
            title=f"split {split}",
            name=experiment_name(name, split),
            overrides={SPLIT_KEY: split, **overrides},
            preset=preset,
            until=until,
        )
        for split in splits
    ]
    for parameters in check_cells(root, cells, validate=validate):
        if (dataset := parameters.get("download.dataset")) != "regdb":
            raise UserError(
                f"download.dataset is {dataset!r} with the preset {preset!r}, and only RegDB has these splits: take a "
                "preset with download.dataset: regdb"
            )
    return cells


def conclude(root: Path, outcomes: Sequence[SplitOutcome]) -> Conclusion:
    """Write results/regdb/<name>.json and .md over the finished splits, and say what is missing.

    Splits that a former run has finished and that share everything but the split count, too.

    Args:
        root: the project.
        outcomes: how each split ended, as `run_side_by_side` gives them.

    Raises:
        UserError: the splits just finished differ in more than the split; no summary is written.
    """
    cell = outcomes[0].piece
    name = cell.name.rpartition("-split")[0]
    failed = {_split(outcome): str(outcome.error) for outcome in outcomes if outcome.error is not None}
    finished = [_read(root, outcome) for outcome in outcomes if outcome.result is not None]
    evaluated = [split for split in finished if split.reports]
    if evaluated:
        _check_alike(evaluated)
        asked = [_split(outcome) for outcome in outcomes]
        evaluated += earlier_splits(root, name, like=evaluated[0], without=asked)
    summary = summarise(
        evaluated,
        name=name,
        preset=cell.preset or "",
        overrides={key: value for key, value in cell.overrides.items() if key != SPLIT_KEY},
        failed=failed,
    )
    return Conclusion(
        rows=rows_of(summary),
        written=write_summary(root, summary) if evaluated else [],
        failure=_failure(len(outcomes), failed),
        mistaken=all(isinstance(o.error, UserError) for o in outcomes if o.error is not None),
    )


def ending(outcome: SplitOutcome) -> str:
    """One line for the log about a split that has just ended."""
    title, result, minutes = outcome.piece.title, outcome.result, outcome.seconds / 60
    if result is None:
        return f"{title} failed after {minutes:.1f} min: {outcome.error}"
    if result.reused:
        return f"{title} was finished before: experiment {result.name}"
    return f"{title} is finished after {minutes:.1f} min: experiment {result.name}"


def _split(outcome: SplitOutcome) -> int:
    return outcome.piece.overrides[SPLIT_KEY]


def _read(root: Path, outcome: SplitOutcome) -> FinishedSplit:
    result = outcome.result
    assert result is not None
    return read_split(root, _split(outcome), name=result.name, rev=result.rev, stages=list(result.stages))


def _check_alike(splits: Sequence[FinishedSplit]) -> None:
    first = splits[0]
    for split in splits[1:]:
        if other := split.differs_from(first):
            more = f" and {len(other) - _SHOWN} more" if len(other) > _SHOWN else ""
            raise UserError(
                f"splits {first.split} and {split.split} have no common mean, for files were changed while they ran: "
                f"{', '.join(other[:_SHOWN])}{more}; start them again: what the change does not concern comes from "
                "the cache"
            )


def _failure(number: int, failed: Mapping[int, str]) -> str:
    if not failed:
        return ""
    by_message: dict[str, list[str]] = {}
    for split, message in failed.items():
        by_message.setdefault(message, []).append(str(split))
    reasons = [
        f"split{'s' * (len(splits) > 1)} {', '.join(splits)}: {message}"
        for message, splits in by_message.items()
    ]
    return "\n".join([f"{len(failed)} of {number} splits failed; started again, only they run", *reasons])


def _readable(preset: str, overrides: Mapping[str, Any]) -> str:
    words = [preset, *(f"{key.rsplit('.', 1)[-1]}-{value}" for key, value in overrides.items())]
    return re.sub(r"[^A-Za-z0-9_]+", "-", "-".join(words))[:_NAME_LENGTH].strip("-")
