"""Grids over the tiny project: what runs, what does not run again, and what is written down."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_grid
import tiny_project
from smoke_project import Project, ask, prefect_server
from tiny_project import git, wait_for

from msclnet.errors import UserError
from pipelines.experiments.grid import Plan, load_grid, make_plan
from pipelines.experiments.run import CellOutcome, conclude, ending, run_grid


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.setenv("PREFECT_PORT", "9")  # nobody listens there: no server
    monkeypatch.setenv("MSCLNET_DEVICE", "cpu")
    return tiny_grid.setup(tmp_path, monkeypatch)


def start(root: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", tiny_project.COMMAND, "grid", *arguments],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background ignores SIGINT, and its children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def command(root: Path, *arguments: str) -> tuple[int, str, str]:
    child = start(root, *arguments)
    output, errors = child.communicate(timeout=500)
    return child.returncode, output, errors


def run(root: Path, grid: str = "ablation", **given) -> tuple[Plan, list[CellOutcome]]:
    plan = make_plan(root, load_grid(root, grid), **given)
    outcomes: list[CellOutcome] = []
    run_grid(root, plan, on_end=outcomes.append)
    return plan, outcomes


def test_every_cell_is_an_experiment_with_a_record_and_the_rows_are_compared(tiny: tuple[Path, Path]) -> None:
    root, home = tiny
    code, output, errors = command(root, "ablation")

    assert code == 0, errors
    names = [f"ablation-{row}-s{seed}" for row in ("B", "three", "five") for seed in (0, 1)]
    found = tiny_project.experiments(root)
    assert sorted(found) == sorted(names)
    assert found["ablation-five-s1"]["params"]["train"]["effect"] == 5
    assert found["ablation-five-s1"]["params"]["train"]["epochs"] == 3
    assert tiny_grid.trained(home) == ["0 0", "0 1", "3 0", "3 1", "5 0", "5 1"]
    lines = [line for line in output.splitlines() if line.startswith(("B ", "three ", "five "))]
    assert lines[0].split() == ["B", "2", "30.50", "±", "0.71", "20.50", "±", "0.71"]
    # Both differences are the same with either seed, so that the interval has no width.
    assert lines[1].split()[2:] == [
        *("36.50", "±", "0.71", "23.50", "±", "0.71"),
        *("+6.00", "[+6.00,", "+6.00]", "+3.00", "[+3.00,", "+3.00]"),
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


def test_finished_cells_are_not_run_again_whatever_became_of_git_and_the_experiments(
    tiny: tuple[Path, Path],
) -> None:
    root, home = tiny
    run(root, rows=["B"], seeds=[0])
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=results")  # DVC's experiments hang on the former commit
    before = len(tiny_project.runs(home))
    _, outcomes = run(root, rows=["B"], seeds=[0, 1])

    assert [outcome.result.before for outcome in outcomes if outcome.result] == [True, False]
    assert ending(outcomes[0]) == "B, seed 0 was finished before: experiments/results/ablation/B-s0.json"
    assert tiny_grid.trained(home) == ["0 0", "0 1"]
    assert tiny_project.runs(home)[before:] == ["train 0 1 ablation-B-s1", "evaluate"]


def test_a_lost_record_comes_back_from_the_cache_without_training(tiny: tuple[Path, Path]) -> None:
    root, home = tiny
    run(root, rows=["B", "three"], seeds=[0])
    path = root / "experiments/results/ablation/B-s0.json"
    first = json.loads(path.read_text())
    path.unlink()
    run(root, rows=["B"], seeds=[0])

    again = json.loads(path.read_text())
    assert tiny_grid.trained(home) == ["0 0", "3 0"]
    assert again["machine"]["trained_here"] is False
    for key in ("figures", "history", "training", "params", "code", "data"):
        assert again[key] == first[key]


def test_cells_are_judged_by_their_inputs_and_not_by_their_names(tiny: tuple[Path, Path]) -> None:
    root, home = tiny
    run(root, rows=["B"], seeds=[0])
    first = tiny_grid.record(root, "ablation", "B", 0)
    (root / "docs.md").write_text("no stage reads this")
    run(root, rows=["B"], seeds=[0])
    assert tiny_grid.trained(home) == ["0 0"]

    with (root / "train.py").open("a") as file:
        file.write("\n# changed\n")
    run(root, rows=["B"], seeds=[0])
    assert tiny_grid.trained(home) == ["0 0", "0 0"]
    second = tiny_grid.record(root, "ablation", "B", 0)
    assert second["code"] != first["code"]
    assert second["params"] == first["params"]

    # A parameter that the record's code did not know is a matter of code too: the cell is trained again.
    path = root / "experiments/results/ablation/B-s0.json"
    path.write_text(
        json.dumps({**second, "params": {k: v for k, v in second["params"].items() if k != "train.epochs"}})
    )
    run(root, rows=["B"], seeds=[0])
    second = tiny_grid.record(root, "ablation", "B", 0)
    assert second["params"] == first["params"]

    # Other parameters under the same name are refused, and what is there stays.
    with pytest.raises(
        UserError, match=r"row B: experiments with other parameters \(train\.epochs: 3 -> 7\)"
    ):
        run(root, rows=["B"], seeds=[0], overrides={"train.epochs": 7})
    git(root, "commit", "--quiet", "--all", "--message=the experiments are another commit's now")
    words = (
        r"^experiments/results/ablation/B-s0\.json was made with other parameters \(train\.epochs: 3 -> 7\)"
    )
    with pytest.raises(UserError, match=words):
        run(root, rows=["B"], seeds=[0], overrides={"train.epochs": 7})
    assert tiny_grid.record(root, "ablation", "B", 0) == second
    run(root, rows=["B"], seeds=[0], overrides={"train.epochs": 7}, name="longer")
    assert tiny_grid.record(root, "longer", "B", 0)["params"]["train.epochs"] == 7


def test_a_failing_cell_is_reported_and_the_rest_goes_on(tiny: tuple[Path, Path]) -> None:
    root, home = tiny
    (home / "wrong-3").touch()
    code, _, errors = command(root, "ablation", "--seeds", "0")

    assert code == 2
    assert errors == (
        "error: 1 of 3 cells failed; started again, only they run\n"
        "three, seed 0: train.effect is wrong: take another\n"
    )
    assert sorted(path.name for path in (root / "experiments/results/ablation").iterdir()) == [
        "B-s0.json",
        "five-s0.json",
    ]
    (home / "wrong-3").unlink()
    assert command(root, "ablation", "--seeds", "0")[0] == 0
    assert tiny_grid.trained(home) == ["0 0", "3 0", "5 0", "3 0"]

    (home / "crash-3").touch()
    plan, outcomes = run(root, seeds=[1])
    conclusion = conclude(root, plan, outcomes)
    assert not conclusion.mistaken
    assert conclusion.failure.startswith("1 of 3 cells failed")
    assert conclusion.rows[1] == {"row": "three", "seeds": "0", "note": "failed with seed 1"}


def test_a_divergence_is_an_outcome_with_a_record(tiny: tuple[Path, Path]) -> None:
    root, home = tiny
    (home / "diverge-3").touch()
    plan, outcomes = run(root, seeds=[0])
    conclusion = conclude(root, plan, outcomes)

    assert conclusion.failure == ""
    assert conclusion.rows[1] == {"row": "three", "seeds": "0", "note": "diverged with seed 0"}
    record = tiny_grid.record(root, "ablation", "three", 0)
    assert record["diverged"].startswith("training stopped in epoch 2, step 20: loss_inter = nan")
    assert record["figures"] == {}
    run(root, seeds=[0])
    assert tiny_grid.trained(home) == ["0 0", "3 0", "5 0"]


def test_under_score_validation_nothing_after_the_training_runs(tiny: tuple[Path, Path]) -> None:
    root, home = tiny
    plan, outcomes = run(root, "screening", rows=["three", "five"], seeds=[2])

    assert tiny_grid.trained(home) == ["3 2", "5 2"]
    assert "evaluate" not in tiny_project.runs(home)
    record = tiny_grid.record(root, "screening", "three", 2)
    # the ablation's three epochs come with its rows: 10 + 3 + 4 + 3 / 8
    assert record["figures"] == {"validation": {"score": 17.375, "i2v_rank1": 17.375, "v2i_rank1": 17.375}}
    assert set(record["stages"]) == {"train"}
    assert conclude(root, plan, outcomes).rows[0]["score"] == "17.38"


def test_two_at_a_time(tiny: tuple[Path, Path]) -> None:
    root, home = tiny
    # Each training waits until the other has begun.
    code, _, errors = command(
        root,
        "ablation",
        "--rows",
        "B",
        "five",
        "--seeds",
        "1",
        "--parallel",
        "2",
        "--set",
        "train.meet=[0, 5]",
    )
    assert code == 0, errors
    assert sorted(tiny_grid.trained(home)) == ["0 1", "5 1"]
    assert (
        tiny_grid.record(root, "ablation", "five", 1)["figures"]["test"]["all-1shot"]["mean"]["rank1"] == 41.0
    )


def test_two_runs_of_one_grid_at_once_train_every_cell_once(tiny: tuple[Path, Path]) -> None:
    root, home = tiny
    children = [start(root, "ablation", "--seeds", "1", "--rows", "B", "five") for _ in range(2)]
    for child in children:
        _, errors = child.communicate(timeout=500)
        assert child.returncode == 0, errors

    assert sorted(tiny_grid.trained(home)) == ["0 1", "5 1"]
    for row in ("B", "five"):
        assert tiny_grid.record(root, "ablation", row, 1)["machine"]["trained_here"] is True


def test_two_clones_with_one_cache_share_a_grid(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    root, home = tiny
    other = tmp_path / "other"
    git(tmp_path, "clone", "--quiet", str(root), str(other))
    for each in (root, other):
        tiny_project.dvc(each, "cache", "dir", "--local", str(tmp_path / "cache"))
    children = [start(each, "ablation", "--seeds", seed) for each, seed in ((root, "0"), (other, "1"))]
    for child in children:
        _, errors = child.communicate(timeout=500)
        assert child.returncode == 0, errors
    assert sorted(tiny_grid.trained(home)) == ["0 0", "0 1", "3 0", "3 1", "5 0", "5 1"]

    # What one has trained is in the other's cache, and its records are files that can be copied or merged.
    run(root, rows=["five"], seeds=[1])
    assert len(tiny_grid.trained(home)) == 6
    theirs = tiny_grid.record(other, "ablation", "five", 1)
    ours = tiny_grid.record(root, "ablation", "five", 1)
    assert (ours["figures"], ours["code"], ours["params"]) == (
        theirs["figures"],
        theirs["code"],
        theirs["params"],
    )
    shutil.copytree(other / "experiments/results", root / "experiments/results", dirs_exist_ok=True)
    before = tiny_project.runs(home)
    run(root)
    assert tiny_project.runs(home) == before


def test_an_interrupted_grid_goes_on(tiny: tuple[Path, Path]) -> None:
    root, home = tiny
    (home / "endless-3").touch()
    child = start(root, "ablation", "--seeds", "0")
    wait_for(lambda: (home / "pid").exists(), what="the second training", seconds=300)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=300)
    assert child.returncode == 130
    assert (root / "experiments/results/ablation/B-s0.json").exists()

    (home / "endless-3").unlink()
    assert command(root, "ablation", "--seeds", "0")[0] == 0
    assert tiny_grid.trained(home) == ["0 0", "3 0", "3 0", "5 0"]


def test_mistakes_are_found_before_anything_runs(tiny: tuple[Path, Path]) -> None:
    root, home = tiny
    for words, wrong in {
        r"^experiments/ablation\.yaml has no row 'thre' \(did you mean 'three'\?\)$": {"rows": ["thre"]},
        r"^no seed or no row is named": {"seeds": []},
        r"^a seed is a whole number": {"seeds": [-1]},
        r"^seed is set for each cell": {"overrides": {"seed": 3}},
        r"row B: .*has no such key \(did you mean train\.epochs\?\)": {"overrides": {"train.epoch": 2}},
        r"row B: 'a/b-B-s0' cannot be an experiment's name": {"name": "a/b"},
    }.items():
        with pytest.raises(UserError, match=words):
            run(root, **wrong)
    code, _, errors = command(root, "ablations")
    assert (code, errors) == (2, "error: no grid 'ablations' in experiments/ (did you mean 'ablation'?)\n")
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
        ("{ train.effect: 3 }", "{ train.effects: 3 }", r"row three: .*did you mean train\.effect\?"),
        ("{ train.effect: 3 }", "{ seed: 3 }", r"overrides must not set the seed"),
        ("name: ablation", "name: abl", r"^experiments/ablation\.yaml: name is 'abl'; name it 'ablation'"),
        ("preset: small", "preset: smal", r"row B: no preset 'smal' \(did you mean small\?\)"),
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
        run(root)
    assert "experiments/ablation.yaml" in str(caught.value)


def test_a_damaged_record_is_named(tiny: tuple[Path, Path]) -> None:
    root, _ = tiny
    path = root / "experiments/results/ablation/B-s0.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"row": "B"')
    with pytest.raises(UserError, match=r"^experiments/results/ablation/B-s0\.json is damaged"):
        run(root, rows=["B"], seeds=[0])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API address of a Prefect server for these tests."""
    folder = tmp_path_factory.mktemp("prefect")
    with prefect_server(Project(folder), folder) as address:
        yield address


@pytest.mark.pipeline
def test_in_prefect_every_cell_is_a_task_and_the_rows_an_artifact(
    tiny: tuple[Path, Path], server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, home = tiny
    monkeypatch.setenv("PREFECT_API_URL", server)
    (home / "wrong-3").touch()
    code, _, errors = command(root, "ablation", "--seeds", "0", "--parallel", "2")

    assert code == 2
    message = "error: 1 of 3 cells failed; started again, only they run\nthree, seed 0: train.effect is wrong"
    assert message in errors
    flow_run = ask(f"{server}/flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 1})[0]
    mine = {"flow_runs": {"id": {"any_": [flow_run["id"]]}}}
    states = {task["name"]: task["state_type"] for task in ask(f"{server}/task_runs/filter", mine)}
    assert states == {"B, seed 0": "COMPLETED", "three, seed 0": "FAILED", "five, seed 0": "COMPLETED"}
    assert flow_run["state"]["message"].startswith(message)
    (artifact,) = ask(f"{server}/artifacts/filter", mine)
    rows = {row["row"]: row for row in json.loads(artifact["data"])}
    assert artifact["key"] == "grid-ablation"
    assert rows["five"]["Rank-1 - baseline"] == "+10.00 (one seed)"
    assert rows["three"]["note"] == "failed with seed 0"
