import contextvars
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import tiny_project
import tiny_regdb
from pipelines.regdb import SplitOutcome, conclude, split_cells
from replicas import write_regdb
from smoke_project import Project, ask, prefect_server
from test_real_data_sets import prepared
from tiny_project import git, wait_for

from msclnet.errors import UserError
from pipelines.orchestration.cells import Cell, run_cell
from pipelines.orchestration.runs import ExperimentResult, RunOptions
from pipelines.orchestration.side_by_side import run_side_by_side

# The command line without the schema of the real params.yaml.
COMMAND = """
import sys
from pipelines import flows
from pipelines.orchestration.command import main
flows.check_params = lambda path: None
sys.exit(main())
"""
DIRECTIONS = ("visible-to-infrared", "infrared-to-visible")


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.setenv("PREFECT_PORT", "9")  # nobody listens there: no server
    return tiny_regdb.setup(tmp_path, monkeypatch)


def start(root: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, "regdb", *arguments],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background ignores SIGINT, and its children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def command(root: Path, *arguments: str) -> tuple[int, str, str]:
    child = start(root, *arguments)
    output, errors = child.communicate(timeout=240)
    return child.returncode, output, errors


def run_all(root: Path, cells: list[Cell], lines: list[str] | None = None) -> list[SplitOutcome]:
    def run(cell: Cell, stop: Event) -> ExperimentResult:
        say = (lambda line: None) if lines is None else lines.append
        return run_cell(root, cell, options=RunOptions(on_line=say, stop=stop))

    return run_side_by_side(cells, run)


def test_every_split_is_an_experiment_and_the_summary_is_their_mean(tiny: tuple[Path, Path]) -> None:
    root, home = tiny
    code, output, _ = command(root, "--splits", "3", "1", "4", "1")

    assert code == 0
    assert tiny_regdb.trained(home) == ["3", "1", "4"]
    found = tiny_project.experiments(root)
    assert {name: entry["params"]["preprocess"] for name, entry in found.items()} == {
        f"regdb-split{split}": {"regdb_split": split} for split in (1, 3, 4)
    }
    assert git(root, "status", "--porcelain") == ""  # the user's tree and params.yaml are as they were
    summary = tiny_regdb.summary(root)
    assert summary["splits"] == [1, 3, 4]
    assert summary["failed"] == {}
    refs = git(root, "for-each-ref", "--format=%(refname:lstrip=4) %(objectname)", "refs/exps").split()
    assert {entry["name"]: entry["commit"] for entry in summary["experiments"].values()} == dict(
        zip(refs[::2], refs[1::2], strict=True)
    )
    assert [(r["direction"], r["feature"], bool(r["re_ranking"])) for r in summary["results"]] == [
        (direction, *rest)
        for direction in DIRECTIONS
        for rest in (("bnneck", False), ("bnneck", True), ("pooled", False))
    ]
    for result in summary["results"]:
        assert (result["dataset"], result["flip"], result["trials"]) == ("regdb", False, 1)
        assert result["embedding"] == {"backend": "torch", "precision": "fp32"}
        for metric in ("rank1", "rank20", "mAP", "mINP"):
            expected = [
                tiny_regdb.figure(split, direction=result["direction"], metric=metric) for split in (1, 3, 4)
            ]
            assert result[metric]["per_split"] == pytest.approx(expected, abs=1e-9)
            assert result[metric]["mean"] == pytest.approx(np.mean(expected), abs=1e-9)
            assert result[metric]["std"] == pytest.approx(np.std(expected, ddof=1), abs=1e-9)

    # 0.3 * (1, 9, 16) has the mean 2.6 and the sample deviation 2.25.
    rows = {line.split()[0]: line.split()[1:] for line in output.splitlines() if line[:1].isalnum()}
    assert rows["4"] == ["34.82", "38.82", "24.82", "28.82", "regdb-split4"]
    assert rows["mean"] == ["32.62", "36.62", "22.62", "26.62", "over", "3", "of", "10", "splits"]
    assert rows["deviation"][:4] == ["2.25"] * 4
    text = (root / "results" / "regdb" / "regdb.md").read_text()
    assert "| mean | 32.62 | 36.62 | 22.62 | 26.62 | over 3 of 10 splits |" in text
    assert "written: results/regdb/regdb.json" in output


def test_a_failing_split_does_not_stop_the_others_and_only_it_runs_again(tiny: tuple[Path, Path]) -> None:
    root, home = tiny
    for name in ("wrong-1", "wrong-3"):
        (home / name).touch()
    code, _, errors = command(root, "--splits", "1", "2", "3")

    assert code == 2  # nothing but mistakes of the user
    assert errors.startswith("error: 2 of 3 splits failed; started again, only they run\n")
    assert "split 1: split 1 has a list without a file" in errors
    assert "split 3: split 3 has a list without a file" in errors
    assert tiny_regdb.trained(home) == ["1", "2", "3"]
    first = tiny_regdb.summary(root)
    assert first["splits"] == [2]
    assert list(first["failed"]) == ["1", "3"]

    (home / "wrong-1").unlink()
    (home / "wrong-3").rename(home / "crash-3")
    code, output, errors = command(root, "--splits", "1", "2", "3")
    assert code == 1  # a crash
    assert errors.startswith("1 of 3 splits failed")
    assert "split 2 was finished before: experiment regdb-split2" in output
    assert tiny_regdb.trained(home) == ["1", "2", "3", "1", "3", "3", "3"]  # a crash is tried again
    assert "Traceback" not in errors

    # What was finished before counts, also when it is not asked for.
    (home / "crash-3").unlink()
    code, output, _ = command(root, "--splits", "3")
    assert code == 0
    assert tiny_regdb.trained(home)[7:] == ["3"]
    last = tiny_regdb.summary(root)
    assert last["splits"] == [1, 2, 3]
    assert last["failed"] == {}
    assert last["experiments"]["2"] == first["experiments"]["2"]


def test_splits_run_side_by_side(tiny: tuple[Path, Path]) -> None:
    root, home = tiny
    # Each training waits until the other one has begun: in a queue neither would ever end.
    code, _, _ = command(root, "--splits", "1", "2", "--parallel", "2", "--set", "train.meet=[1, 2]")

    assert code == 0
    assert sorted(tiny_regdb.trained(home)) == ["1", "2"]
    assert sorted(tiny_project.experiments(root)) == ["regdb-meet-1-2-split1", "regdb-meet-1-2-split2"]
    assert tiny_regdb.summary(root, "regdb-meet-1-2")["splits"] == [1, 2]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopping_stops_every_training(tiny: tuple[Path, Path], number: signal.Signals, status: int) -> None:
    root, home = tiny
    for split in (1, 2, 3):
        (home / f"endless-{split}").touch()
    child = start(root, "--parallel", "2", "--splits", "1", "2", "3")
    pids = [home / "pid-1", home / "pid-2"]
    wait_for(lambda: all(pid.exists() and pid.read_text() for pid in pids), what="two trainings")
    child.send_signal(number)
    _, errors = child.communicate(timeout=60)

    assert child.returncode == status
    assert "Traceback" not in errors
    assert [(home / f"stopped-{split}").exists() for split in (1, 2, 3)] == [True, True, False]
    assert not any(tiny_project.lives(int(pid.read_text())) for pid in pids)
    assert sorted(tiny_regdb.trained(home)) == ["1", "2"]
    assert git(root, "for-each-ref", "refs/exps") == ""
    assert not (root / "results").exists()


def test_other_parameters_under_the_same_name_are_refused_before_anything_runs(
    tiny: tuple[Path, Path],
) -> None:
    root, home = tiny
    run_all(root, split_cells(root, splits=[1, 2], until="preprocess"))
    before = git(root, "for-each-ref", "refs/exps")

    with pytest.raises(UserError, match=r"train\.epochs: 2 -> 3.*dvc exp remove regdb-split1 regdb-split2"):
        split_cells(root, splits=[3, 1, 2], overrides={"train.epochs": 3}, name="regdb")
    other = split_cells(root, splits=[1], overrides={"train": {"epochs": 3}})
    assert [cell.name for cell in other] == ["regdb-epochs-3-split1"]  # a name of its own where none is given
    assert git(root, "for-each-ref", "refs/exps") == before
    assert tiny_project.runs(home) == []


def test_changed_code_replaces_a_split_without_training_again(tiny: tuple[Path, Path]) -> None:
    root, home = tiny
    (former,) = run_all(root, split_cells(root, splits=[1]))
    with (root / "visualize.py").open("a") as file:
        file.write("\n# repaired\n")
    lines: list[str] = []
    (present,) = run_all(root, split_cells(root, splits=[1]), lines)

    assert former.result is not None
    assert present.result is not None
    assert present.result.rev != former.result.rev
    assert present.result.stages["visualize"] == "run"
    replaced = [line for line in lines if "replaces the former one" in line]
    assert replaced == [
        f"files have changed since regdb-split1 was made: it replaces the former one, commit {former.result.rev[:10]}"
    ]
    assert tiny_project.runs(home) == ["train 1", "visualize", "visualize"]


def test_only_splits_of_the_same_code_data_and_parameters_have_a_mean(tiny: tuple[Path, Path]) -> None:
    root, _ = tiny
    first = run_all(root, split_cells(root, splits=[1]))
    with (root / "visualize.py").open("a") as file:
        file.write("\n# a picture changes no figure\n")
    second = run_all(root, split_cells(root, splits=[2], until="evaluate"))
    conclude(root, [*first, *second])
    assert tiny_regdb.summary(root)["splits"] == [1, 2]
    before = (root / "results/regdb/regdb.json").read_bytes()

    with (root / "evaluate.py").open("a") as file:
        file.write("\n# edited while the splits were running\n")
    third = run_all(root, split_cells(root, splits=[4], until="evaluate"))
    with pytest.raises(
        UserError, match=r"splits 1 and 4 have no common mean.*: evaluate\.py; start them again"
    ):
        conclude(root, [*first, *second, *third])
    assert (root / "results/regdb/regdb.json").read_bytes() == before
    # Alone the split has a summary of its own: the former ones were made of something else.
    conclude(root, third)
    assert tiny_regdb.summary(root)["splits"] == [4]
    assert [result["rank1"]["std"] for result in tiny_regdb.summary(root)["results"]] == [None] * 6


def test_a_report_of_another_split_is_refused(tiny: tuple[Path, Path]) -> None:
    root, _ = tiny
    text = (root / "evaluate.py").read_text()
    (root / "evaluate.py").write_text(text.replace('"split": split}', '"split": 7}'))
    outcomes = run_all(root, split_cells(root, splits=[1], until="evaluate"))

    with pytest.raises(UserError, match="labelled regdb, split 7, and not regdb, split 1"):
        conclude(root, outcomes)
    assert not (root / "results").exists()


def test_without_evaluation_there_is_no_summary(tiny: tuple[Path, Path]) -> None:
    root, home = tiny
    conclusion = conclude(root, run_all(root, split_cells(root, splits=[2], until="train")))

    assert conclusion.rows == conclusion.written == []
    assert conclusion.failure == ""
    assert list(tiny_project.experiments(root)) == ["regdb-split2"]
    assert not (root / "results").exists()
    conclude(root, run_all(root, split_cells(root, splits=[2])))
    assert tiny_regdb.trained(home) == ["2"]
    assert tiny_regdb.summary(root)["splits"] == [2]


def test_mistakes_are_found_before_anything_runs(tiny: tuple[Path, Path]) -> None:
    root, home = tiny
    for words, wrong in {
        r"^RegDB has the splits 1 to 10, and no 11$": {"splits": [1, 11]},
        r"^no split is named": {"splits": []},
        r"^download\.dataset is 'synthetic' with the preset 'smoke'": {"preset": "smoke"},
        r"^no preset 'regdbs' \(did you mean regdb\?\)": {"preset": "regdbs"},
        r"^preprocess\.regdb_split is set for each split here": {
            "overrides": {"preprocess": {"regdb_split": 2}}
        },
        r"has no such key \(did you mean train\.epochs\?\)": {"overrides": {"train.epoch": 2}},
        r"^'a/b-split1' cannot be an experiment's name": {"name": "a/b"},
    }.items():
        with pytest.raises(UserError, match=words):
            split_cells(root, **wrong)
    code, _, errors = command(root, "--parallel", "0")
    assert code == 2
    assert errors == "error: parallel is 0: give the number of runs at a time, 1 or more\n"
    assert tiny_project.runs(home) == []


def test_a_wrong_value_names_the_preset_and_not_a_temporary_file(tiny: tuple[Path, Path]) -> None:
    root, _ = tiny

    def refuse(params: Path) -> None:
        raise UserError(f"{params} is not valid: {re.findall('regdb_split: .*', params.read_text())}")

    words = r"^presets/regdb\.yaml with the given overrides is not valid: \['regdb_split: 5'\]$"
    with pytest.raises(UserError, match=words):
        split_cells(root, splits=[5], validate=refuse)


def test_at_most_so_many_at_a_time_and_outcomes_in_order() -> None:
    variable = contextvars.ContextVar[str]("variable")
    variable.set("the caller's")
    lock, present, most, seen = threading.Lock(), 0, 0, list[str]()
    both = threading.Barrier(2, timeout=60)

    def run(piece: int, stop: Event) -> int:
        nonlocal present, most
        with lock:
            present += 1
            most = max(most, present)
            seen.append(variable.get())
        if piece < 4:
            both.wait()  # the first four come in pairs, so two are truly at work together
        with lock:
            present -= 1
        if piece == 5:
            raise ValueError("five")
        if piece == 6:
            raise SystemExit(3)  # no Exception, and the caller must not wait for ever
        return piece * piece

    ended: list[int] = []
    outcomes = run_side_by_side(range(8), run, parallel=2, on_end=lambda outcome: ended.append(outcome.piece))

    assert most == 2
    assert seen == ["the caller's"] * 8
    assert sorted(ended) == list(range(8))
    assert [outcome.piece for outcome in outcomes] == list(range(8))
    assert [outcome.result for outcome in outcomes] == [0, 1, 4, 9, 16, None, None, 49]
    assert [type(outcome.error) for outcome in outcomes if outcome.error] == [ValueError, SystemExit]
    assert run_side_by_side([], run) == []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API address of a Prefect server for these tests."""
    folder = tmp_path_factory.mktemp("prefect")
    with prefect_server(Project(folder), folder) as address:
        yield address


def newest_run(address: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The flow run that was started last, and its task runs by name."""
    run = ask(f"{address}/flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 1})[0]
    tasks = ask(f"{address}/task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
    return run, {task["name"]: task for task in tasks}


@pytest.mark.pipeline
def test_in_prefect_every_split_is_a_task_and_the_means_an_artifact(
    tiny: tuple[Path, Path], server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, home = tiny
    monkeypatch.setenv("PREFECT_API_URL", server)
    (home / "wrong-2").touch()
    code, _, errors = command(root, "--splits", "1", "2", "3", "--parallel", "2")

    assert code == 2
    message = "error: 1 of 3 splits failed; started again, only they run\nsplit 2: split 2 has a list without"
    assert message in errors
    run, tasks = newest_run(server)
    states = {name: task["state_type"] for name, task in tasks.items()}
    assert states == {"split 1": "COMPLETED", "split 2": "FAILED", "split 3": "COMPLETED"}
    assert run["state_type"] == "FAILED"
    assert run["state"]["message"].startswith(message)
    (artifact,) = ask(f"{server}/artifacts/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
    rows = {row["split"]: row for row in json.loads(artifact["data"])}
    assert artifact["key"] == "regdb"
    assert list(rows) == ["1", "2", "3", "mean", "deviation"]
    assert rows["2"]["experiment"] == "failed"
    assert rows["mean"]["V-I Rank-1"] == "31.52"  # 30.02 + 0.3 * (1 + 9) / 2
    lines = ask(f"{server}/logs/filter", {"limit": 200, "logs": {"flow_run_id": {"any_": [run["id"]]}}})
    for task in tasks.values():
        own = [line["message"] for line in lines if line["task_run_id"] == task["id"]]
        assert sum(message.startswith("Running stage 'train'") for message in own) == 1


@pytest.mark.pipeline
def test_stopping_a_flow_run_stops_every_training(
    tiny: tuple[Path, Path], server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, home = tiny
    monkeypatch.setenv("PREFECT_API_URL", server)
    for split in (1, 2):
        (home / f"endless-{split}").touch()
    child = start(root, "--parallel", "2", "--splits", "1", "2", "3")
    pids = [home / "pid-1", home / "pid-2"]
    wait_for(lambda: all(pid.exists() and pid.read_text() for pid in pids), what="two trainings", seconds=120)
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=90)

    assert child.returncode != 0
    assert [(home / f"stopped-{split}").exists() for split in (1, 2)] == [True, True]
    assert not any(tiny_project.lives(int(pid.read_text())) for pid in pids)
    assert sorted(tiny_regdb.trained(home)) == ["1", "2"]
    run, tasks = newest_run(server)
    assert run["state_type"] in ("CRASHED", "CANCELLED")
    assert sorted(tasks) == ["split 1", "split 2"]


@pytest.mark.pipeline
def test_two_splits_of_a_replica_through_the_real_stages(tmp_path: Path) -> None:
    write_regdb(tmp_path / "RegDB")
    project = prepared(tmp_path / "project", "regdb", preprocess__validation="none")
    (project.root / "presets" / "regdb.yaml").write_bytes((project.root / "params.yaml").read_bytes())
    arguments = ("regdb", "--splits", "1", "2", "--until", "evaluate")
    project.run("python", "-m", "pipelines.flows", *arguments, MSCLNET_RAW=str(tmp_path / "RegDB"))

    summary = tiny_regdb.summary(project.root)
    assert summary["splits"] == [1, 2]
    reports = {}
    for split in (1, 2):
        # Read by DVC itself, from the experiment.
        program = f"print(dvc.api.read('results/metrics/report.json', rev='regdb-split{split}'))"
        found = json.loads(project.run("python", "-c", f"import dvc.api; {program}").stdout)
        assert {report["split"] for report in found} == {split}
        reports[split] = {(report["direction"], report["feature"]): report for report in found}
    assert len(summary["results"]) == len(reports[1])
    assert summary["data_differences"] > 10  # a replica has few of the people
    for result in summary["results"]:
        expected = [100 * reports[n][result["direction"], result["feature"]]["mAP"]["mean"] for n in (1, 2)]
        assert result["mAP"]["per_split"] == pytest.approx(expected, abs=1e-9)
        assert result["mAP"]["mean"] == pytest.approx(np.mean(expected), abs=1e-9)
