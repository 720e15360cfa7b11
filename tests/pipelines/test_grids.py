"""Grids over the tiny project: what runs, what does not run again, and what is written down."""

import contextvars
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from threading import Event

import pytest
import tiny_grid
import tiny_project
from smoke_project import ask
from tiny_project import git, wait_for

from msclnet.errors import UserError
from pipelines import cli
from pipelines.experiments import plan as plans
from pipelines.experiments import run as runner
from pipelines.experiments.grid import load_grid
from pipelines.experiments.plan import Plan, make_plan
from pipelines.experiments.run import CellOutcome, Conclusion, ending, run_grid, run_parallel

EXAMPLE = "experiments/results/ablation.jsonl"


@pytest.fixture
def tiny(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> tuple[Path, Path]:
    monkeypatch.setenv("PREFECT_PORT", "9")  # nobody listens there: no server
    monkeypatch.setenv("MSCLNET_DEVICE", "cpu")
    root, home = tiny_grid.setup(tmp_path, monkeypatch, processes="prefect_api" in request.fixturenames)
    monkeypatch.chdir(root)
    return root, home


def start(root: Path, *arguments: str, program: str = tiny_project.COMMAND) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, "grid", *arguments],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background ignores SIGINT, and its children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def command(*arguments: str) -> int:
    """`msclnet grid ...` in this process; returns its exit status."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["grid", *arguments])
    return int(ended.value.code or 0)


def run(
    root: Path, grid: str = "ablation", *, parallel: int = 1, **given
) -> tuple[Plan, Conclusion, list[CellOutcome]]:
    outcomes: list[CellOutcome] = []
    plan = make_plan(root, load_grid(root, grid), **given)
    conclusion = run_grid(root, plan, parallel=parallel, on_end=outcomes.append)
    return plan, conclusion, outcomes


def test_every_cell_is_an_experiment_with_a_record_and_the_rows_are_compared(
    tiny: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root, home = tiny
    assert command("ablation", "--rows", "B", "five", "--seeds", "0", "1") == 0

    output = capsys.readouterr().out
    names = [f"ablation-{row}-s{seed}" for row in ("B", "five") for seed in (0, 1)]
    found = tiny_project.experiments(root)
    assert sorted(found) == sorted(names)
    assert found["ablation-five-s1"]["params"]["train"]["effect"] == 5
    assert found["ablation-five-s1"]["params"]["train"]["epochs"] == 3
    assert tiny_grid.trained(home) == ["0 0", "0 1", "5 0", "5 1"]
    lines = [line for line in output.splitlines() if line.startswith(("B ", "five "))]
    assert lines[-2].split() == ["B", "2", "30.50", "±", "0.71", "20.50", "±", "0.71"]
    # Both differences are the same with either seed, so that the interval has no width.
    assert lines[-1].split()[2:] == [
        *("40.50", "±", "0.71", "25.50", "±", "0.71"),
        *("+10.00", "[+10.00,", "+10.00]", "+5.00", "[+5.00,", "+5.00]"),
    ]
    assert git(root, "status", "--short") == "?? experiments/results/\n"

    record = tiny_grid.record(root, "ablation", "five", 1)
    assert record["figures"] == {
        "validation": {"score": 15.0},
        "test": {
            "all-1shot": {
                "mean": {"rank1": 41.0, "mAP": 26.0},
                "std": {"rank1": 1.0, "mAP": 1.0},
                "random": {"rank1": 1.0, "mAP": 2.0},
            },
            "indoor-1shot": {"mean": {"rank1": 50.0, "mAP": 40.0}},
        },
    }
    assert (record["row"], record["seed"], record["preset"], record["score"]) == ("five", 1, "small", "test")
    assert record["overrides"] == {"train.epochs": 3, "train.effect": 5, "seed": 1}
    assert record["recipe"] == 1
    assert record["commit"] == git(root, "rev-parse", "HEAD").strip()
    assert record["experiment"]["name"] == "ablation-five-s1"
    assert record["mlflow_run"] == "run-5-1"
    # 3 epochs of 10 steps of 8 x (4 + 4) images at 320 images a second
    assert record["training"] == {"epochs": 3, "steps": 30, "seconds": 6.0}
    assert record["machine"]["trained_here"] is True
    assert record["machine"]["cores"] >= 1
    assert record["stages"]["train"]["status"] == "run"
    assert record["history"]["loss_identity"] == [4, 2, 1.3333]
    assert record["history"]["val_score"] == [None, None, 16.375]
    assert "images_per_second" not in record["history"]


def test_cells_that_train_at_a_time_share_the_cores(
    tiny: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = tiny
    plan = make_plan(root, load_grid(root, "ablation"), rows=["B"], seeds=[0, 1])
    monkeypatch.setattr(runner, "cores", lambda: 6)

    def threads(parallel: int) -> set[str | None]:
        given: list[str | None] = []

        def cell(*_: object, environment: dict[str, str], **__: object) -> None:
            given.append(environment.get("OMP_NUM_THREADS"))
            raise UserError("not run")

        run_grid(root, plan, run=cell, parallel=parallel)  # pyright: ignore[reportArgumentType]
        return set(given)

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [threads(1), threads(2), threads(9)] == [{None}, {"3"}, {"1"}]
    monkeypatch.setenv("OMP_NUM_THREADS", "5")  # the user's own, which every stage inherits
    assert threads(2) == {None}


def test_finished_cells_are_not_run_again_whatever_became_of_git_the_files_and_the_experiments(
    tiny: tuple[Path, Path],
) -> None:
    root, home = tiny
    run(root, rows=["B"], seeds=[0])
    (root / "docs.md").write_text("no stage reads this")
    with (root / "train.py").open("a") as file:
        file.write("\n# another comment\n")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=results")  # DVC's experiments hang on the former commit
    before = len(tiny_project.runs(home))
    _, _, outcomes = run(root, rows=["B"], seeds=[0, 1])

    assert [outcome.result.before for outcome in outcomes if outcome.result] == [True, False]
    assert ending(outcomes[0]) == f"B, seed 0 was finished before: {EXAMPLE}"
    assert tiny_grid.trained(home) == ["0 0", "0 1"]
    assert tiny_project.runs(home)[before:] == ["train 0 1 ablation-B-s1", "evaluate"]


def test_a_lost_record_comes_back_from_the_cache_without_training(tiny: tuple[Path, Path]) -> None:
    root, home = tiny
    run(root, rows=["B"], seeds=[0])
    first = tiny_grid.record(root, "ablation", "B", 0)
    (root / EXAMPLE).unlink()
    run(root, rows=["B"], seeds=[0])

    again = tiny_grid.record(root, "ablation", "B", 0)
    assert tiny_grid.trained(home) == ["0 0"]
    assert again["machine"]["trained_here"] is False
    for key in ("figures", "history", "training", "params", "recipe", "data"):
        assert again[key] == first[key]


def edit_record(root: Path, **changes) -> None:
    record = tiny_grid.record(root, "ablation", "B", 0) | changes
    (root / EXAMPLE).write_text(json.dumps(record) + "\n")


def test_cells_are_judged_by_parameters_and_recipe_and_not_by_their_names(tiny: tuple[Path, Path]) -> None:
    root, home = tiny
    run(root, rows=["B"], seeds=[0])
    first = tiny_grid.record(root, "ablation", "B", 0)

    # Another recipe is not finished; a record from before there was a number, or a parameter, is of recipe 1.
    with pytest.MonkeyPatch.context() as patch:
        for module in (plans, runner, sys.modules["pipelines.experiments.record"]):
            patch.setattr(module, "RECIPE", 2)
        _, _, outcomes = run(root, rows=["B"], seeds=[0])
    assert [outcome.result.before for outcome in outcomes if outcome.result] == [False]
    assert tiny_grid.record(root, "ablation", "B", 0)["recipe"] == 2
    edit_record(root, params={k: v for k, v in first["params"].items() if k != "train.epochs"})
    record = tiny_grid.record(root, "ablation", "B", 0)
    del record["recipe"]
    (root / EXAMPLE).write_text(json.dumps(record) + "\n")
    (cell,) = make_plan(root, load_grid(root, "ablation"), rows=["B"], seeds=[0]).cells
    assert cell.finished_by(record)
    assert not cell.finished_by({**record, "score": "validation"})
    assert not cell.finished_by({**record, "recipe": 2})
    assert tiny_grid.trained(home) == ["0 0"]

    # Other parameters under the same name are refused, and what is there stays.
    edit_record(root, params=first["params"])
    with pytest.raises(
        UserError, match=r"row B: experiments with other parameters \(train\.epochs: 3 -> 7\)"
    ):
        run(root, rows=["B"], seeds=[0], overrides={"train.epochs": 7})
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=the experiments are another commit's now")
    words = (
        r"^experiments/results/ablation\.jsonl has a record of B, seed 0 with other parameters "
        r"\(train\.epochs: 3 -> 7\): give another name \(--name\)"
    )
    with pytest.raises(UserError, match=words):
        run(root, rows=["B"], seeds=[0], overrides={"train.epochs": 7})
    assert git(root, "status", "--short") == ""
    run(root, rows=["B"], seeds=[0], overrides={"train.epochs": 7}, name="longer")
    assert tiny_grid.record(root, "longer", "B", 0)["params"]["train.epochs"] == 7


def test_a_failing_cell_is_reported_and_the_rest_goes_on(
    tiny: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root, home = tiny
    (home / "wrong-3").touch()
    assert command("ablation", "--seeds", "0") == 2

    assert capsys.readouterr().err == (
        "error: 1 of 3 cells failed; started again, only they run\n"
        "three, seed 0: train.effect is wrong: take another\n"
    )
    assert list(tiny_grid.records(root, "ablation")) == [("B", 0), ("five", 0)]
    (home / "wrong-3").rename(home / "crash-3")
    assert command("ablation", "--seeds", "0") == 1
    assert "1 of 3 cells failed" in capsys.readouterr().err
    (home / "crash-3").unlink()
    _, conclusion, _ = run(root, seeds=[0])
    assert conclusion.failure == ""
    # A mistake once, a crash three times, then well.
    assert tiny_grid.trained(home) == ["0 0", "3 0", "5 0", *["3 0"] * 4]


def test_a_divergence_is_a_result_with_a_record(tiny: tuple[Path, Path]) -> None:
    root, home = tiny
    (home / "diverge-3").touch()
    _, conclusion, _ = run(root, seeds=[0], rows=["three", "five"])

    assert conclusion.failure == ""
    assert conclusion.rows[0] == {"row": "three", "seeds": "0", "note": "diverged with seed 0"}
    record = tiny_grid.record(root, "ablation", "three", 0)
    assert record["diverged"].startswith("training stopped in epoch 2, step 20: loss_inter = nan")
    assert record["figures"] == {}
    assert record["history"] == {"epoch": [1], "loss_identity": [4]}
    assert record["last_steps"] == {"step": [19, 20], "total": [3.1235, None], "feature_norm": [9, 1000000]}
    assert record["training"] == {"epochs": 1, "steps": 10, "seconds": 2.0}
    run(root, seeds=[0], rows=["three", "five"])
    assert tiny_grid.trained(home) == ["3 0", "5 0"]

    # What it has written is not taken for another cell's, whose failure is a mistake.
    (home / "wrong-0").touch()
    _, conclusion, _ = run(root, seeds=[0], rows=["B"])
    assert conclusion.failure.endswith("B, seed 0: train.effect is wrong: take another")


def test_under_score_validation_nothing_after_the_training_runs(tiny: tuple[Path, Path]) -> None:
    root, home = tiny
    _, conclusion, _ = run(root, "screening", rows=["three"], seeds=[2])

    assert tiny_grid.trained(home) == ["3 2"]
    assert "evaluate" not in tiny_project.runs(home)
    record = tiny_grid.record(root, "screening", "three", 2)
    # the ablation's three epochs come with its rows: 10 + 3 + 4 + 3 / 8
    assert record["figures"] == {"validation": {"score": 17.375, "i2v_rank1": 17.375, "v2i_rank1": 17.375}}
    assert set(record["stages"]) == {"train"}
    assert conclusion.rows[0]["score"] == "17.38"


def test_two_clones_with_one_cache_share_a_grid_and_two_runs_of_one_train_a_cell_once(
    tiny: tuple[Path, Path], tmp_path: Path
) -> None:
    root, home = tiny
    other = tmp_path / "other"
    git(tmp_path, "clone", "--quiet", str(root), str(other))
    for each in (root, other):
        tiny_project.dvc(each, "cache", "dir", "--local", str(tmp_path / "cache"))
    parts = ((root, "0", ["B"]), (root, "0", ["B"]), (other, "1", ["B", "five"]))
    children = [
        start(each, "ablation", "--rows", *rows, "--seeds", seed, program=tiny_project.IN_ONE_PROCESS)
        for each, seed, rows in parts
    ]
    for child in children:
        _, errors = child.communicate(timeout=900)
        assert child.returncode == 0, errors
    assert sorted(tiny_grid.trained(home)) == ["0 0", "0 1", "5 1"]
    assert tiny_grid.record(root, "ablation", "B", 0)["machine"]["trained_here"]

    # What one has trained is in the other's cache, and its records are lines that git merges by keeping both.
    run(root, rows=["five"], seeds=[1])
    assert len(tiny_grid.trained(home)) == 3
    theirs = tiny_grid.record(other, "ablation", "five", 1)
    ours = tiny_grid.record(root, "ablation", "five", 1)
    for key in ("figures", "recipe", "params", "data"):
        assert ours[key] == theirs[key]
    with (root / EXAMPLE).open("a") as file:
        file.write(json.dumps(tiny_grid.record(other, "ablation", "B", 1)) + "\n")
    before = tiny_project.runs(home)
    run(root, rows=["B"])
    assert tiny_project.runs(home) == before


@pytest.mark.parametrize(
    ("number", "status", "finished"), [(signal.SIGINT, 130, []), (signal.SIGTERM, 143, ["B"])]
)
def test_an_interrupted_grid_stops_every_training_and_goes_on(
    tiny: tuple[Path, Path], number: signal.Signals, status: int, finished: list[str]
) -> None:
    root, home = tiny
    for effect in (3, 5):
        (home / f"endless-{effect}").touch()
    rows = [*finished, "three", "five"]
    child = start(root, "ablation", "--rows", *rows, "--seeds", "0", "--parallel", "2")
    pids = [home / "pid-3", home / "pid-5"]
    wait_for(lambda: all(pid.exists() and pid.read_text() for pid in pids), what="two")
    child.send_signal(number)
    _, errors = child.communicate(timeout=900)
    assert child.returncode == status
    assert "Traceback" not in errors
    assert all((home / f"stopped-{effect}").exists() for effect in (3, 5))
    assert not any(tiny_project.lives(int(pid.read_text())) for pid in pids)
    assert list(tiny_grid.records(root, "ablation")) == [(row, 0) for row in finished]

    for effect in (3, 5):
        (home / f"endless-{effect}").unlink()
    run(root, rows=rows, seeds=[0])
    assert sorted(tiny_grid.trained(home)) == [*["0 0"] * len(finished), "3 0", "3 0", "5 0", "5 0"]


def test_mistakes_are_found_before_anything_runs(
    tiny: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root, home = tiny
    for words, wrong in {
        r"^experiments/ablation\.yaml has no row 'thre' \(did you mean 'three'\?\)$": {"rows": ["thre"]},
        r"^no seed or no row is named": {"seeds": []},
        r"^a seed is a whole number": {"seeds": [-1]},
        r"^seed is set for each cell": {"overrides": {"seed": 3}},
        r"row B: .*has no such key \(did you mean 'train\.epochs'\?\)": {"overrides": {"train.epoch": 2}},
        r"row B: 'a/b-B-s0' cannot be an experiment's name": {"name": "a/b"},
        r"row B: no preset 'smoky' in presets/ \(did you mean 'smoke'\?\)": {"preset": "smoky"},
        r"^parallel is 0: give the number of runs at a time": {"parallel": 0},
    }.items():
        with pytest.raises(UserError, match=words):
            run(root, **wrong)
    assert command("ablations") == 2
    assert (
        capsys.readouterr().err == "error: no grid 'ablations' in experiments/ (did you mean 'ablation'?)\n"
    )
    assert tiny_project.runs(home) == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("score: test", "scores: test", r"scores: unknown key \(did you mean 'score'\?\)"),
        ("seeds: [0, 1]", "seeds: [0, 0]", r"seeds must differ from each other, not \[0, 0\]"),
        ("seeds: [0, 1]", "seeds: []", r"seeds: List should have at least 1 item"),
        ("baseline: B", "baseline: b", r"baseline must be the name of a row, not 'b'"),
        (
            "until: evaluate",
            "until: train",
            r"until must be 'evaluate' or 'visualize' for score 'test', not 'train'",
        ),
        ("score: test", "score: validation", r"until must be 'train' for score 'validation', not 'evaluate'"),
        ("- name: three", "- name: B", r"rows must have different names, not two 'B'"),
        ("- name: three", "- name: th/ree", r"row th/ree\.name: String should match pattern"),
        ("rank1: 59.82", "rank1: 598.2", r"row B\.paper\.rank1: .* less than or equal to 100, not 598\.2"),
        ("rank1: 59.82", "rank: 59.82", r"row B\.paper\.rank: unknown key \(did you mean 'rank1'\?\)"),
        ("    note: nested", "    notes: nested", r"row five\.notes: unknown key \(did you mean 'note'\?\)"),
        ("{ train.effect: 3 }", "{ train.effects: 3 }", r"row three: .*did you mean 'train\.effect'\?"),
        ("{ train.effect: 3 }", "{ seed: 3 }", r"overrides must not set the seed"),
        ("name: ablation", "name: abl", r"^experiments/ablation\.yaml: name is 'abl'; name it 'ablation'"),
        ("preset: small", "preset: smal", r"row B: no preset 'smal' in presets/ \(did you mean 'small'\?\)"),
        ("rows:\n", "rows: other\nnot_rows:\n", r"not_rows: unknown key"),
    ],
)
def test_mistakes_in_the_file_name_it_and_the_key(
    tiny: tuple[Path, Path], old: str, new: str, words: str
) -> None:
    root, _ = tiny
    file = root / "experiments/ablation.yaml"
    assert file.read_text().count(old) >= 1
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=words) as caught:
        make_plan(root, load_grid(root, "ablation"))
    assert "experiments/ablation.yaml" in str(caught.value)


def test_at_most_so_many_at_a_time_and_outcomes_in_order() -> None:
    variable = contextvars.ContextVar[str]("variable")
    variable.set("the caller's")
    lock, present, most, seen = threading.Lock(), 0, 0, list[str]()
    both = threading.Barrier(2, timeout=900)

    def work(piece: int, stop: Event) -> int:
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
    outcomes = run_parallel(range(8), work, parallel=2, on_end=lambda outcome: ended.append(outcome.piece))

    assert most == 2
    assert seen == ["the caller's"] * 8
    assert sorted(ended) == list(range(8))
    assert [outcome.piece for outcome in outcomes] == list(range(8))
    assert [outcome.result for outcome in outcomes] == [0, 1, 4, 9, 16, None, None, 49]
    assert [type(outcome.error) for outcome in outcomes if outcome.error] == [ValueError, SystemExit]
    assert run_parallel([], work) == []


@pytest.mark.pipeline
def test_in_prefect_every_cell_is_a_task_and_the_rows_an_artifact(
    tiny: tuple[Path, Path],
    prefect_api: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, home = tiny
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    (home / "wrong-3").touch()
    # B and five wait until the other has begun: in a queue neither would ever end.
    assert command("ablation", "--seeds", "0", "--parallel", "2", "--set", "train.meet=[0, 5]") == 2

    message = "error: 1 of 3 cells failed; started again, only they run\nthree, seed 0: train.effect is wrong"
    assert message in capsys.readouterr().err
    flow_run = ask(f"{prefect_api}/flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 1})[0]
    mine = {"flow_runs": {"id": {"any_": [flow_run["id"]]}}}
    states = {task["name"]: task["state_type"] for task in ask(f"{prefect_api}/task_runs/filter", mine)}
    assert states == {"B, seed 0": "COMPLETED", "three, seed 0": "FAILED", "five, seed 0": "COMPLETED"}
    assert flow_run["state"]["message"].startswith(message)
    (artifact,) = ask(f"{prefect_api}/artifacts/filter", mine)
    rows = {row["row"]: row for row in json.loads(artifact["data"])}
    assert artifact["key"] == "grid-ablation"
    assert rows["five"]["Rank-1 - baseline"] == "+10.00 (one seed)"
    assert rows["three"]["note"] == "failed with seed 0"
    means = tiny_grid.record(root, "ablation", "five", 0)["figures"]["test"]["all-1shot"]["mean"]
    assert means["rank1"] == 40.0
