import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from mlflow_stores import DATASET, run_status, stored_metrics

from msclnet.errors import UserError
from msclnet.tracking.run import Tracker

Start = Callable[..., Tracker]


def database(home: Path) -> Path:
    return home / "mlruns" / "mlflow.db"


def test_a_run_holds_all_that_it_was_given(start: Start, home: Path, tmp_path: Path) -> None:
    figure = tmp_path / "curve.txt"
    figure.write_text("figure")
    tracker = start(
        params={"train": {"epochs": 3}, "many": {str(i): i for i in range(150)}, "long": "x" * 7000},
        tags={"git_commit": "abc123", "remote": "https://me:hunter2x@git.example.org/r"},
    )
    values = [0.1 + 0.2, 1e-300, 1 / 3]
    for step, value in enumerate(values):
        tracker.log_metrics({"loss": value, "cmc@1": step, "broken": None}, step=step)  # pyright: ignore
    tracker.log_artifact(figure, "figures")
    tracker.set_tags({"stage": "train"})
    tracker.finish("FINISHED")
    tracker.finish("FAILED")  # only the first counts

    assert tracker.delivered
    assert stored_metrics(database(home), tracker.run_id) == [
        *[("cmc_1", step, float(step)) for step in range(3)],
        *[("loss", step, value) for step, value in enumerate(values)],
    ]
    run = tracker.server.client.get_run(tracker.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["train.epochs"] == "3"
    assert [run.data.params[f"many.{i}"] for i in range(150)] == [str(i) for i in range(150)]
    assert len(run.data.params["long"]) == 6000
    artifacts = home / "mlruns" / "artifacts" / tracker.run_id / "artifacts"
    assert json.loads((artifacts / "params.json").read_text())["long"] == "x" * 7000
    assert (artifacts / "figures" / "curve.txt").read_text() == "figure"
    tags = run.data.tags
    assert tags["mlflow.source.git.commit"] == tags["git_commit"] == "abc123"
    assert tags["remote"] == "https://***@git.example.org/r"
    assert (tags["stage"], tags["dataset_digest"]) == ("train", DATASET.digest)
    assert run.inputs is not None
    (logged,) = run.inputs.dataset_inputs
    assert (logged.dataset.name, logged.dataset.digest) == (DATASET.name, DATASET.digest[:36])
    assert json.loads(str(logged.dataset.profile)) == DATASET.counts


def test_resume_goes_on_with_the_same_run(start: Start, home: Path) -> None:
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


def test_an_unknown_run_is_replaced_once_and_linked(start: Start, home: Path) -> None:
    reference = {"run_id": "0123456789abcdef0123456789abcdef", "experiment": "elsewhere"}
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
    assert joined[0].reference["experiment"] == "elsewhere"
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


def raise_(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("end", "status", "raised"),
    [
        (lambda: None, "FINISHED", None),
        (lambda: raise_(SystemExit(0)), "FINISHED", SystemExit),
        (lambda: raise_(SystemExit(2)), "FAILED", SystemExit),
        (lambda: raise_(RuntimeError()), "FAILED", RuntimeError),
        (lambda: raise_(KeyboardInterrupt()), "KILLED", KeyboardInterrupt),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), "KILLED", SystemExit),
    ],
)
def test_the_end_of_the_process_gives_the_status(
    start: Start, home: Path, end: Callable[[], None], status: str, raised: type[BaseException] | None
) -> None:
    tracker = start()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(raised) if raised else nullcontext(), tracker.lifetime():
        tracker.log_metrics({"loss": 1.0}, step=0)
        end()
    assert run_status(database(home), tracker.run_id) == status
    assert stored_metrics(database(home), tracker.run_id) == [("loss", 0, 1.0)]
    assert signal.getsignal(signal.SIGTERM) == before


def test_system_metrics_are_logged(start: Start, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "1")
    tracker = start(system_metrics=True)
    for _ in range(300):
        if stored_metrics(database(home), tracker.run_id):
            break
        time.sleep(0.1)
    names = {name for name, _, _ in stored_metrics(database(home), tracker.run_id)}
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= names


def test_two_processes_create_the_database_at_once(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from msclnet.tracking.server import connect, find_or_create_experiment, prepare_environment\n"
        "prepare_environment()\n"
        "import mlflow\n"
        "mine, other, home = (Path(name) for name in sys.argv[1:])\n"
        "mine.touch()\n"
        "while not other.exists():\n"
        "    time.sleep(0.005)\n"
        "server = connect(home)\n"
        "experiment = find_or_create_experiment(server, 'shared')\n"
        "print(server.client.create_run(experiment).info.run_id)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    names = [tmp_path / "ready-0", tmp_path / "ready-1"]
    processes = [
        subprocess.Popen(
            [sys.executable, str(program), str(mine), str(other), str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for mine, other in (names, names[::-1])
    ]
    outputs = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert [err for _, err in outputs] == ["", ""]  # and MLflow's migrations do not chatter
    assert len({run_status(database(tmp_path), out.strip()) for out, _ in outputs}) == 1
