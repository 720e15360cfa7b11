"""When a step is recorded, and what then decides whether the recording is used."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from tiny_training import PARAMS, load, seeded_network

from msclnet.distributed import Processes
from msclnet.errors import UserError
from msclnet.images.batches import PairBatch
from msclnet.losses.objective import Objective
from msclnet.training.cuda_graph import WARM_UP, GraphedStep, fastest_step, rates_as_tensors
from msclnet.training.optimizer import build_optimizer, set_rate
from msclnet.training.step import Step


def tiny_step() -> Step:
    network = seeded_network().train()
    optimizer = build_optimizer(network, PARAMS.train.optimizer.model_dump(), pretrained=network.backbone)
    set_rate(optimizer, 0.01)
    objective = Objective(PARAMS.section("loss"), PARAMS.section("synergy"))
    return Step(network, objective, optimizer, precision="fp32", device=torch.device("cpu"))


class Recording:
    """Stands for torch's CUDA graph: counts how often it was started."""

    def __init__(self) -> None:
        self.started = 0

    def replay(self) -> None:
        self.started += 1


@pytest.fixture
def recordings(monkeypatch: pytest.MonkeyPatch) -> list[Recording]:
    made: list[Recording] = []

    @contextmanager
    def record(graph: Recording, **_: Any) -> Iterator[None]:
        made.append(graph)
        yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recording)
    monkeypatch.setattr(torch.cuda, "graph", record)
    return made


def batches(count: int) -> list[PairBatch]:
    return list(load(0, count))


def without_last_pair(batch: PairBatch) -> PairBatch:
    return PairBatch(**{name: tensor[:-1] for name, tensor in vars(batch).items()})


def test_recorded_after_the_warm_up_and_started_from_then_on(recordings: list[Recording]) -> None:
    step = GraphedStep(tiny_step())
    for i, batch in enumerate(batches(WARM_UP + 4), start=1):
        assert len(recordings) == (i > WARM_UP + 1)
        step(batch)
    assert [recording.started for recording in recordings] == [4]


def test_the_recording_gets_each_batch_and_each_rate(recordings: list[Recording]) -> None:
    step = GraphedStep(tiny_step())
    for i, batch in enumerate(batches(WARM_UP + 3)):
        set_rate(step.step.optimizer, 0.1 / (1 + i))
        step(batch)
        if i >= WARM_UP:
            given = (batch.visible, batch.infrared, batch.labels)
            assert all(torch.equal(a, b) for a, b in zip(step._inputs, given, strict=False))
            assert [rate.item() for rate in step._rates] == pytest.approx(
                [group["lr"] for group in step.step.optimizer.param_groups]
            )


def test_what_is_no_repetition_is_taken_step_by_step(recordings: list[Recording]) -> None:
    step = GraphedStep(tiny_step())
    *first, last = batches(WARM_UP + 2)
    for batch in first:
        step(batch)
    before = recordings[0].started
    figures: dict[str, float] = {}
    step(last, figures=figures)
    assert figures["gradient_identity"] > 0
    step(without_last_pair(last))
    fewer = PairBatch(**{**vars(last), "labels": last.labels.clamp(max=int(last.labels.unique()[-2]))})
    step(fewer)
    assert recordings[0].started == before
    step(last)
    assert recordings[0].started == before + 1


def test_a_forgotten_recording_is_made_anew(recordings: list[Recording]) -> None:
    step = GraphedStep(tiny_step())
    *first, last = batches(WARM_UP + 2)
    for batch in first:
        step(batch)
    step.forget()
    for _ in range(WARM_UP + 1):
        step(last)
    assert [recording.started for recording in recordings] == [1, 1]


def test_the_figures_of_a_step_outlive_the_next(recordings: list[Recording]) -> None:
    step = GraphedStep(tiny_step())
    for batch in batches(WARM_UP + 1):
        figures = step(batch)
    total = figures["total"].item()
    step._measured.fill_(-1.0)  # as the next start does
    assert figures["total"].item() == total
    assert list(figures)[-2:] == ["total", "feature_norm"]


def test_rates_are_numbers_again_whatever_happens() -> None:
    step = tiny_step()
    set_rate(step.optimizer, 0.01)
    tensors = [torch.tensor(1.0), torch.tensor(2.0)]

    def spoil() -> None:
        with rates_as_tensors(step.optimizer, tensors):
            assert [group["lr"] for group in step.optimizer.param_groups] == tensors
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        spoil()
    assert [group["lr"] for group in step.optimizer.param_groups] == [0.01, 0.01]


def test_a_recording_that_fails_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def refuse(graph: Any, **_: Any) -> Iterator[None]:
        yield
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recording)
    monkeypatch.setattr(torch.cuda, "graph", refuse)
    step = GraphedStep(tiny_step())
    *first, last = batches(WARM_UP + 1)
    for batch in first:
        step(batch)
    with pytest.raises(
        UserError, match=r"\(operation not permitted when stream is capturing\); .*MSCLNET_CUDA_GRAPHS"
    ):
        step(last)


def test_only_a_single_process_on_a_gpu_records() -> None:
    step = tiny_step()
    assert fastest_step(step, graphs=True) is step
    step.device = torch.device("cuda")
    assert isinstance(fastest_step(step, graphs=True), GraphedStep)
    assert fastest_step(step, graphs=False) is step
    step.processes = Processes(rank=0, world=2)
    assert fastest_step(step, graphs=True) is step
