import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from stand_in import DIMENSION, HEIGHT, WIDTH

from msclnet.tracking.model import REQUIREMENTS
from msclnet.tracking.registry import find_version, promote, set_candidate
from msclnet.tracking.run import Tracker

Start = Callable[..., Tracker]
LogModel = Callable[..., str | None]


def test_the_logged_files_are_code_weights_and_text_but_no_pickle(
    start: Start, home: Path, tiny_model: LogModel
) -> None:
    tracker = start()
    version = tiny_model(tracker)
    assert version == find_version(tracker) == "1"
    model = next((home / "mlruns" / "artifacts").rglob("MLmodel")).parent
    names = {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()}
    assert {"artifacts/weights.safetensors", "artifacts/spec.json", "code/msclnet/embedding.py"} <= names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pt", ".pth", ".pyc"))]
    assert json.loads((model / "artifacts" / "spec.json").read_text()) == {"tensor": "matrix"}
    pinned = (model / "requirements.txt").read_text().split()
    assert tuple(line.partition("==")[0] for line in pinned) == REQUIREMENTS
    assert all("==" in line and "+" not in line for line in pinned)

    client = tracker.server.client
    outputs = client.get_run(tracker.run_id).outputs
    assert outputs is not None
    (output,) = outputs.model_outputs
    logged = client.get_logged_model(output.model_id)
    assert (logged.source_run_id, logged.status.value) == (tracker.run_id, "READY")
    from mlflow.models import Model

    signature = Model.load(model).signature
    assert signature is not None
    shapes = {spec.name: (spec.type, spec.shape) for spec in signature.inputs}
    assert shapes == {
        "images": (np.dtype(np.uint8), (-1, HEIGHT, WIDTH, 3)),
        "infrared": (np.dtype(bool), (-1,)),
    }
    assert signature.outputs.inputs[0].shape == (-1, DIMENSION)


def test_weights_that_are_missing_are_an_error_here(start: Start, tiny_model: LogModel, home: Path) -> None:
    with pytest.raises(FileNotFoundError):
        tiny_model(start(), weights=home / "none.safetensors")


@pytest.fixture
def versions(start: Start) -> tuple[Tracker, list[str]]:
    """Four bare versions of the registered model."""
    tracker = start()
    client = tracker.server.client
    client.create_registered_model("msclnet")
    made = [
        client.create_model_version("msclnet", f"file:///nowhere/{i}", run_id=tracker.run_id) for i in "abcd"
    ]
    return tracker, [str(version.version) for version in made]


def champion(tracker: Tracker) -> str:
    return str(tracker.server.client.get_model_version_by_alias("msclnet", "champion").version)


def test_the_champion_is_the_best_on_one_data_set(versions: tuple[Tracker, list[str]]) -> None:
    tracker, (one, two, three, four) = versions

    def judge(version: str, score: float, digest: str = "d1", **options) -> tuple[bool, str]:
        promoted, reason = promote(tracker, version, validation_score=score, dataset_digest=digest, **options)
        assert f"version {version}" in reason
        return promoted, reason

    assert judge(one, 0.5)[0]
    assert judge(one, 0.5)[0]  # evaluated again: still the champion
    promoted, reason = judge(two, 0.5)
    assert (promoted, champion(tracker)) == (False, one)  # a tie keeps it
    assert "0.5" in reason
    assert judge(two, 0.5000001)[0]
    assert champion(tracker) == two
    assert not judge(three, float("nan"))[0]
    promoted, reason = judge(three, 0.99, "d2")
    assert (promoted, champion(tracker)) == (False, two)
    assert "d1" in reason
    assert "d2" in reason
    assert "by hand" in reason
    assert judge(three, 0.1, "d2", force=True)[0]
    assert champion(tracker) == three
    tracker.server.client.set_registered_model_alias("msclnet", "champion", four)
    assert not judge(one, 0.9)[0]  # somebody chose version 4 by hand, and it has no score
    assert champion(tracker) == four
    tracker.server.client.delete_model_version("msclnet", four)
    assert judge(one, 0.2)[0]


def test_the_candidate_is_the_version_evaluated_last(versions: tuple[Tracker, list[str]]) -> None:
    tracker, (one, two, *_) = versions
    set_candidate(tracker, one, {"rank1": 0.1})
    set_candidate(tracker, two, {"rank1": 1 / 3, "cmc@5": 0.5})
    found = tracker.server.client.get_model_version_by_alias("msclnet", "candidate")
    assert str(found.version) == two
    assert float(found.tags["rank1"]) == 1 / 3
    assert float(found.tags["cmc_5"]) == 0.5
    assert find_version(tracker) == "4"
