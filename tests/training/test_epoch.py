"""What an epoch gathers, and what it says of its speed."""

import io
import sys
from pathlib import Path

import pytest
import torch
from tiny_training import EPOCHS, make_training

from msclnet.training.epoch import GIB, Part, gpu_memory, time_left


def filled() -> Part:
    part = Part()
    part.add({"a": torch.tensor(1.0), "b": torch.tensor(-2.0)}, images=64, seconds=2.0, waited=0.5)
    part.add({"a": torch.tensor(4.0), "b": torch.tensor(0.0)}, images=64, seconds=6.0, waited=1.5)
    return part


def test_means_and_speed_in_closed_form() -> None:
    part = filled()
    assert part.steps == 2
    assert part.means() == {"a": 2.5, "b": -1.0}
    assert part.speed() == {"images_per_second": 16.0, "share_waiting_for_input": 0.25}


def test_a_part_survives_its_way_through_plain_values() -> None:
    again = Part(**vars(filled()))
    again.add({"a": torch.tensor(1.0), "b": torch.tensor(5.0)}, images=1, seconds=1.0, waited=0.0)
    assert again.means() == {"a": 2.0, "b": 1.0}


def test_an_empty_part_has_no_speed_and_no_means() -> None:
    assert Part().means() == {}
    assert Part().speed() == {"images_per_second": 0.0, "share_waiting_for_input": 0.0}


def test_time_left_in_closed_form() -> None:
    assert time_left(30.0, done=10, left=4) == {"seconds_left": 12.0}
    assert time_left(30.0, done=10, left=0) == {"seconds_left": 0.0}
    assert time_left(30.0, done=0, left=4) == {}, "no pace is known"


def test_memory_of_a_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: asked.append(device) or 3 * GIB)
    assert gpu_memory(torch.device("cpu")) == {}
    assert gpu_memory(torch.device("cuda", 1)) == {"gpu_memory_gib": 3.0}
    assert asked == [torch.device("cuda", 1)]


def test_the_bar_shows_speed_waiting_memory_and_time_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr("msclnet.training.loop.gpu_memory", lambda _: {"gpu_memory_gib": 1.25})
    training = make_training(tmp_path)
    training.run()
    last = screen.getvalue().split("\r")[-1]
    for words in ("12/12", "<00:00", "epoch=4", "loss=", "images/s=", "waiting=", "%", "GPU=1.2 GiB"):
        assert words in last
    rows = training.progress.history
    assert [row["gpu_memory_gib"] for row in rows] == [1.25] * EPOCHS
    left = [row["seconds_left"] for row in rows]
    assert left[-1] == 0.0
    assert all(seconds > 0 for seconds in left[:-1])
