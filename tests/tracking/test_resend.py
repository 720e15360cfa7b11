import json
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow_stores import stored_metrics

from msclnet.errors import UserError
from msclnet.tracking.resend import Resent, read_history, read_reference, resend
from msclnet.tracking.run import Tracker

Start = Callable[..., Tracker]


def test_only_what_is_missing_is_sent(start: Start, home: Path, tmp_path: Path) -> None:
    tracker = start()
    tracker.log_metrics({"loss": 0.1 + 0.2, "val_mAP": 0.5, "images_per_second": 64.5}, step=1)
    tracker.finish("FINISHED")
    history, run = tmp_path / "history.csv", tmp_path / "run.json"
    history.write_text(
        f"epoch,loss,val_mAP,images_per_second\n1,{0.1 + 0.2!r},0.5,64.5\n2,{1 / 3!r},,70\n3,1e-300,0.75,\n"
    )
    run.write_text(json.dumps(tracker.reference))

    assert resend(history, read_reference(run), home=home) == Resent(4, 3, tracker.run_id)
    assert resend(history, read_reference(run), home=home) == Resent(0, 7, tracker.run_id)
    assert stored_metrics(home / "mlruns" / "mlflow.db", tracker.run_id) == [
        ("loss", 1, 0.1 + 0.2),
        ("loss", 2, 1 / 3),
        ("loss", 3, 1e-300),
        ("system/images_per_second", 1, 64.5),
        ("system/images_per_second", 2, 70.0),
        ("val_mAP", 1, 0.5),
        ("val_mAP", 3, 0.75),
    ]


def test_a_server_that_never_knew_the_run_gets_one_stand_in(
    home: Path, tmp_path: Path, experiment: str
) -> None:
    history = tmp_path / "history.csv"
    history.write_text("epoch,loss\n0,1.5\n")
    reference = {"run_id": "f" * 32, "experiment": experiment, "run_name": "original"}
    first, second = (resend(history, reference, home=home, status="KILLED") for _ in range(2))
    assert (first.sent, second.sent, second.present) == (1, 0, 1)
    assert first.run_id == second.run_id
    joined = Tracker.join(reference, home=home, stage="embed")
    assert joined.run_id == first.run_id
    stored = joined.server.client.get_run(first.run_id)
    assert (stored.info.status, stored.info.run_name) == ("KILLED", "original")
    joined.finish("FINISHED")


@pytest.mark.parametrize(
    "content", ["time,loss\n1,2\n", "epoch,loss\n1,2\nx,3\n", "epoch,note\n1,good\n", None]
)
def test_a_wrong_history_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "history.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=r"tmp.*history\.csv.*name .* history\.csv"):
        read_history(path)


def test_a_wrong_run_file_is_named(tmp_path: Path) -> None:
    run = tmp_path / "run.json"
    for content in ("[]", "{"):
        run.write_text(content)
        with pytest.raises(UserError, match=r"run\.json: .*name the run\.json of a training"):
            read_reference(run)
