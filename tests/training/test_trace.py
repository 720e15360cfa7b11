"""The profiler's trace: what is in it, and that it changes nothing."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import STEPS, equal_weights, make_training

from msclnet.training.profiler import SKIPPED, traced

CPU = torch.device("cpu")


def run_traced(folder: Path, *, steps: int, **changes: Any) -> tuple[Any, list[Path], Path]:
    """Weights, what was reported, and the trace's place."""
    reported: list[Path] = []
    target = folder / "deep" / "trace.json.gz"
    training = make_training(folder / "checkpoints", **changes)
    with traced(target, steps=steps, device=CPU, written=reported.append) as after_step:
        training.after_step = after_step
        weights = training.run()
    return weights, reported, target


def events(target: Path) -> list[dict[str, Any]]:
    with gzip.open(target, "rt", encoding="utf-8") as file:
        return json.load(file)["traceEvents"]


def count(found: list[dict[str, Any]], start: str) -> int:
    return sum(1 for event in found if event.get("ph") == "X" and event["name"].startswith(start))


def test_a_trace_holds_the_networks_operators_of_its_steps(tmp_path: Path) -> None:
    weights, reported, target = run_traced(tmp_path, steps=2, epochs=2)
    assert reported == [target]
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    found = events(target)
    assert count(found, "ProfilerStep#") == 2
    # Forward passes of a step: as many as there are convolution modules in a pass over both modalities.
    seen = []
    training = make_training(
        tmp_path / "counted", epochs=1, steps_per_epoch=1, gradients_every=0, validate_every=9
    )
    training.validate = lambda _: {}
    for module in training.network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda *_: seen.append(1))
    training.run()
    assert count(found, "aten::conv2d") == 2 * len(seen) > 0
    assert count(found, "aten::convolution_backward") > 0
    assert count(found, "Optimizer.step#SGD.step") == 2
    shapes = [e["args"]["Input Dims"] for e in found if e.get("name") == "aten::conv2d"]
    assert all(shapes)
    assert equal_weights(weights, make_training(tmp_path / "plain", epochs=2).run()), "tracing changes no bit"


def test_a_training_that_ends_early_leaves_the_trace_of_what_there_was(tmp_path: Path) -> None:
    _, reported, target = run_traced(tmp_path, steps=100, epochs=1)
    assert reported == [target]
    assert count(events(target), "Optimizer.step#SGD.step") == STEPS - SKIPPED == 1


def test_too_few_steps_leave_no_trace(tmp_path: Path) -> None:
    _, reported, target = run_traced(tmp_path, steps=5, epochs=1, steps_per_epoch=1)
    assert reported == []
    assert not target.exists()


@pytest.mark.parametrize("reason", [OSError(28, "No space left on device"), RuntimeError("no")])
def test_a_trace_that_cannot_be_written_ends_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, reason: Exception
) -> None:
    def refused(*_: object) -> None:
        raise reason

    monkeypatch.setattr(os, "replace", refused)
    target = tmp_path / "trace.json.gz"
    reported: list[Path] = []
    with traced(target, steps=1, device=CPU, written=reported.append) as after_step:
        for _ in range(4):
            torch.ones(2).sum()
            after_step()
    assert reported == []
    assert list(tmp_path.iterdir()) == []
    assert f"{target} could not be written" in caplog.text
