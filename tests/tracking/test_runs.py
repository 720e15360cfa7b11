import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from mlflow_stores import DATASET, run_status, stored_metrics

from msclnet.errors import UserError
from msclnet.tracking.run import Tracker, grid_runs

Start = Callable[..., Tracker]


def database(home: Path) -> Path:
    return home / "mlruns" / "mlflow.db"


def test_a_run_holds_all_that_it_was_given(start: Start, home: Path, tmp_path: Path) -> None:
    figure = tmp_path / "curve.txt"
    figure.write_text("figure")
    tracker = start(
        params={
            "train": {"epochs": 3, "shots": [1, 10]},
            "many": {str(i): i for i in range(150)},
            "empty": {},
        },
        tags={"git_commit": "abc123", "remote": "https://me:hunter2x@git.example.org/r"},
    )
    values = [0.1 + 0.2, 1e-300, 1 / 3]
    for step, value in enumerate(values):
        tracker.log_metrics({"loss": value, "images_per_second": step}, step=step)
    tracker.log_artifact(figure, "figures")
    tracker.log_json({"place": "https://me:hunter2x@host/a.zip"}, "place.json")
    tracker.set_tags({"stage": "train"})
    tracker.finish("FINISHED")
    tracker.finish("FAILED")  # only the first counts

    assert tracker.delivered
    assert stored_metrics(database(home), tracker.run_id) == [
        *[("loss", step, value) for step, value in enumerate(values)],
        *[("system/images_per_second", step, float(step)) for step in range(3)],
    ]
    run = tracker.server.client.get_run(tracker.run_id)
    assert run.info.status == "FINISHED"
    expected = {"train.epochs": "3", "train.shots": "[1, 10]", "empty": "{}"}
    assert run.data.params == expected | {f"many.{i}": str(i) for i in range(150)}
    artifacts = home / "mlruns" / "artifacts" / tracker.run_id / "artifacts"
    assert (artifacts / "figures" / "curve.txt").read_text() == "figure"
    assert json.loads((artifacts / "place.json").read_text()) == {"place": "https://***@host/a.zip"}
    tags = run.data.tags
    assert tags["mlflow.source.git.commit"] == tags["git_commit"] == "abc123"
    assert tags["remote"] == "https://***@git.example.org/r"
    assert (tags["stage"], tags["dataset_digest"]) == ("train", DATASET.digest)
    assert run.inputs is not None
    (logged,) = run.inputs.dataset_inputs
    assert (logged.dataset.name, logged.dataset.digest) == (DATASET.name, DATASET.digest[:36])
    assert json.loads(str(logged.dataset.profile)) == DATASET.counts


def test_what_the_server_refuses_is_reported_and_the_rest_is_sent(
    start: Start, home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = start()
    tracker.log_artifact(tmp_path / "none.txt")
    tracker.log_metrics({"loss?": 1.0}, step=0)
    tracker.log_metrics({"loss": 1.0}, step=0)
    tracker.finish("FINISHED")
    assert not tracker.delivered
    assert caplog.text.count("refused") == 2
    assert "none.txt" in caplog.text
    assert "loss?" in caplog.text
    assert stored_metrics(database(home), tracker.run_id) == [("loss", 0, 1.0)]
    assert run_status(database(home), tracker.run_id) == "FINISHED"


def test_resume_continues_the_same_run(start: Start, home: Path) -> None:
    first = start(params={"a": 1})
    first.log_metrics({"loss": 1.0}, step=0)
    first.finish("KILLED")
    again = start(params={"a": 1, "new": 2}, resume=json.loads(json.dumps(first.reference)))
    assert again.run_id == first.run_id
    assert run_status(database(home), first.run_id) == "RUNNING"
    again.log_metrics({"loss": 0.5}, step=1)
    again.finish("FINISHED")
    assert run_status(database(home), first.run_id) == "FINISHED"
    assert stored_metrics(database(home), first.run_id) == [("loss", 0, 1.0), ("loss", 1, 0.5)]
    with pytest.raises(UserError, match=r"a: .*'1'.*'2'"):
        start(params={"a": 2}, resume=first.reference)


def test_an_unknown_run_is_replaced_once_and_linked(start: Start, home: Path, experiment: str) -> None:
    reference = {"run_id": "0123456789abcdef0123456789abcdef", "experiment": experiment}
    resumed = [start(resume=reference) for _ in range(2)]
    assert resumed[0].run_id == resumed[1].run_id != reference["run_id"]
    tags = resumed[0].server.client.get_run(resumed[0].run_id).data.tags
    assert tags["resumed_from"] == reference["run_id"]

    joined = [Tracker.join(reference, home=home, stage=stage) for stage in ("embed", "evaluate")]
    for tracker in joined:
        tracker.finish("FINISHED")
    assert joined[0].run_id == joined[1].run_id
    assert joined[0].run_id not in (reference["run_id"], resumed[0].run_id)
    run = joined[0].server.client.get_run(joined[0].run_id)
    assert (run.data.tags["linked_to"], run.info.status) == (reference["run_id"], "FINISHED")
    assert joined[0].reference["experiment"] == experiment
    with pytest.raises(UserError, match="run_id"):
        Tracker.join({"run_id": "' or 1 = 1"}, home=home, stage="embed")


def test_a_deleted_run_is_not_written_to(start: Start, home: Path) -> None:
    tracker = start()
    tracker.finish("FINISHED")
    tracker.server.client.delete_run(tracker.run_id)
    joined = Tracker.join(tracker.reference, home=home, stage="embed")
    joined.finish("FINISHED")
    assert joined.run_id != tracker.run_id


def test_later_stages_share_the_run_and_leave_its_status(start: Start, home: Path) -> None:
    tracker = start()
    tracker.finish("FINISHED")
    joined = Tracker.join(tracker.reference, home=home, stage="evaluate", tags={"flow": "f"})
    joined.log_metrics({"rank1": 0.5}, step=3)
    with pytest.raises(ZeroDivisionError), joined.lifetime():
        raise ZeroDivisionError
    run = joined.server.client.get_run(tracker.run_id)
    assert joined.run_id == tracker.run_id
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"rank1": 0.5})
    assert (run.data.tags["stage.evaluate"], run.data.tags["flow"]) == ("FAILED", "f")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "FINISHED"),
        (SystemExit(0), "FINISHED"),
        (SystemExit(2), "FAILED"),
        (RuntimeError(), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(143), "KILLED"),
        (SystemExit(130), "KILLED"),
    ],
    ids=repr,
)
def test_the_end_of_the_block_gives_the_status(
    start: Start, home: Path, error: BaseException | None, status: str
) -> None:
    tracker = start(experiment="ends")
    with pytest.raises(type(error)) if error else nullcontext(), tracker.lifetime():
        tracker.log_metrics({"loss": 1.0}, step=0)
        if error is not None:
            raise error
    assert run_status(database(home), tracker.run_id) == status
    assert stored_metrics(database(home), tracker.run_id) == [("loss", 0, 1.0)]


def test_system_metrics_are_logged(start: Start, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "1")
    tracker = start(system_metrics=True)
    for _ in range(3000):
        if stored_metrics(database(home), tracker.run_id):
            break
        time.sleep(0.1)
    names = {name for name, _, _ in stored_metrics(database(home), tracker.run_id)}
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= names


def test_a_grid_has_one_run_however_often_it_is_started(
    start: Start, home: Path, experiment: str, tmp_path: Path
) -> None:
    assert grid_runs(home=tmp_path / "nowhere", names={"ablation"}) == []
    assert not (tmp_path / "nowhere").exists()

    def group(name: str, where: str = experiment) -> Tracker:
        return Tracker.group(home=home, experiment=where, name=name, tags={"score": "test"})

    first = group("ablation")
    first.finish("FAILED")
    again = group("ablation")
    other, elsewhere = group("sensitivity"), group("ablation", f"{experiment}-2")
    start(tags={"mlflow.parentRunId": again.run_id})
    client = again.server.client
    run = client.get_run(again.run_id)
    assert again.run_id == first.run_id
    assert (run.info.status, run.info.run_name) == ("RUNNING", "ablation")
    assert (run.data.tags["grid"], run.data.tags["score"]) == ("ablation", "test")
    found = {tracker.run_id for tracker in grid_runs(home=home, names={"ablation", "screening"})}
    assert found == {again.run_id, elsewhere.run_id}
    for tracker in (again, other, elsewhere):
        tracker.finish("FINISHED")
    assert client.get_run(again.run_id).info.status == "FINISHED"

    again.server.client.update_run(again.run_id, status="KILLED")
    attached = Tracker.attach(again.run_id, home=home)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").write_text("page")
    attached.log_artifact(tmp_path / "report", "report")
    attached.finish("FINISHED")
    assert [file.path for file in client.list_artifacts(again.run_id, "report")] == ["report/index.html"]
    assert client.get_run(again.run_id).info.status == "KILLED"
    with pytest.raises(UserError, match="0" * 32):
        Tracker.attach("0" * 32, home=home)
