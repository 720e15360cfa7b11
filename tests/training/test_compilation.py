"""torch.compile changes how long a step takes, not what it does."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import make_training, seeded_network, validate
from torch import Tensor, nn

from msclnet.errors import UserError
from msclnet.training.step import compile_backbone, not_compiled
from pipelines.stages.config import check_params
from pipelines.stages.presets import load_preset
from pipelines.stages.train import train

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.full_size
@pytest.mark.skipif(
    shutil.which(os.environ.get("CXX") or "g++") is None, reason="train.compile needs a C++ compiler"
)
def test_a_compiled_training_is_a_training_but_for_rounding(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"epochs": 1, "steps_per_epoch": 2, "gradients_every": 1, "validate_every": 1}
    plain = make_training(tmp_path / "plain", **changes)
    expected = plain.run()
    network = seeded_network()
    start = {name: value.clone() for name, value in network.state_dict().items()}
    compile_backbone(network)
    compiled = make_training(
        tmp_path / "compiled", network=network, validate=not_compiled(validate), **changes
    )
    found = compiled.run()
    assert list(found) == list(expected), "names of weights must not tell how they were trained"
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-5, msg=name)
    moved = [
        name
        for name, value in found.items()
        if value.is_floating_point() and not torch.allclose(value, start[name], rtol=1e-3, atol=1e-5)
    ]
    assert any(name.startswith("backbone.") for name in moved), "nothing was trained"
    for column, value in plain.progress.history[0].items():
        if column.startswith(("loss_", "gradient_", "val_")):
            assert compiled.progress.history[0][column] == pytest.approx(value, rel=1e-2, abs=1e-5), column


def test_validation_runs_what_was_not_compiled() -> None:
    compilations = []

    def counting(graph: Any, inputs: Any) -> Any:
        compilations.append(graph)
        return graph

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.backbone(x)

    network = Network()
    network.backbone.compile(backend=counting)
    score = not_compiled(lambda n: {"score": n(torch.ones(1, 2)).sum().item()})(network)["score"]
    assert compilations == []
    assert score == pytest.approx(network(torch.ones(1, 2)).sum().item())
    assert len(compilations) == 1, "afterwards it compiles as ever"


def test_without_a_compiler_no_run_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smoke = load_preset("smoke", ROOT)
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"train\.compile is true.*'no-such-compiler'.*CXX.*false"):
        train(check_params({**smoke, "train": {**smoke["train"], "compile": True}}, source="smoke"))
    assert list(tmp_path.iterdir()) == [], "no run, no folder"
