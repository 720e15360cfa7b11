import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_project
from smoke_project import ask
from tiny_project import git, wait_for

from msclnet.errors import UserError
from pipelines import cli
from pipelines.orchestration import summary
from pipelines.up import server_address


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.setenv("PREFECT_PORT", "9")  # nobody listens there: no server
    root, home = tiny_project.setup(tmp_path, monkeypatch)
    monkeypatch.chdir(root)
    return root, home


def command(*arguments: str) -> int:
    """`msclnet ...` in this process; returns its exit status."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    return int(ended.value.code or 0)


def test_the_command_line_needs_no_server(
    tiny: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root, home = tiny
    assert command("train", "--preset", "smoke", "--set", "train.epochs=3", "--name", "three") == 0

    output = capsys.readouterr().out
    table = [line.split()[:2] for line in output.splitlines()]
    assert all([stage, "run"] in table for stage in ("prepare", "train", "evaluate"))
    assert ["all.single", "0.3"] in table
    assert list(tiny_project.experiments(root)) == ["three"]
    assert git(root, "status", "--porcelain") == ""
    assert command("evaluate") == 2  # this tree has no model yet: the experiment has left it alone
    errors = capsys.readouterr().err
    assert errors.startswith("error: stage evaluate needs results/model, which is not there")
    assert tiny_project.runs(home) == ["prepare", "train 3", "evaluate"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--set train.epoch=3", "train.epoch: params.yaml has no such key (did you mean 'train.epochs'?)"),
        ("--preset smok", "no preset 'smok' in presets/ (did you mean 'smoke'?)"),
        ("--until trains", "no stage 'trains' in dvc.yaml (did you mean 'train'?)"),
        ("--name x", "name 'x': only experiments have names; give a preset or overrides"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(
    tiny: tuple[Path, Path], arguments: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, home = tiny
    assert command("train", *arguments.split()) == 2

    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1
    assert errors.startswith(f"error: {words}")
    assert tiny_project.runs(home) == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopping_the_command_stops_the_training(
    tiny: tuple[Path, Path], number: signal.Signals, status: int
) -> None:
    root, home = tiny
    arguments = ("train", "--set", "train.epochs=999", "--until", "train")
    child = subprocess.Popen(
        [sys.executable, "-c", tiny_project.COMMAND, *arguments],
        cwd=root,
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background ignores SIGINT, and its children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    wait_for(
        lambda: (home / "pid").exists() and (home / "pid").read_text() != "", what="the training", seconds=900
    )
    child.send_signal(number)
    _, errors = child.communicate(timeout=900)

    assert child.returncode == status
    assert "Traceback" not in errors
    assert (home / "stopped").read_text() == "saved"
    assert not tiny_project.lives(int((home / "pid").read_text()))
    assert git(root, "for-each-ref", "refs/exps") == ""


@pytest.mark.pipeline
def test_in_prefect_a_mistake_is_the_runs_message_and_is_not_tried_again(
    tiny: tuple[Path, Path], prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tests/pipelines/test_up.py has a crash, which is."""
    _, home = tiny
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    assert command("train", "--set", "train.epochs=404") == 2

    flow_run = ask(f"{prefect_api}/flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 1})[0]
    mine = {"flow_runs": {"id": {"any_": [flow_run["id"]]}}}
    assert (flow_run["state_type"], flow_run["state"]["message"]) == (
        "FAILED",
        "error: data/raw is missing: run download",
    )
    tasks = {task["name"]: task["run_count"] for task in ask(f"{prefect_api}/task_runs/filter", mine)}
    assert tasks == {"prepare": 1, "train": 1}
    (artifact,) = ask(f"{prefect_api}/artifacts/filter", mine)
    statuses = {row["stage"]: row["status"] for row in json.loads(artifact["data"])}
    assert statuses == {"prepare": "run", "train": "failed"}
    assert tiny_project.runs(home) == ["prepare", "train 404"]


def test_a_server_that_is_named_must_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_PORT", "9")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert server_address() is None
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    with pytest.raises(
        UserError, match=r"PREFECT_API_URL=http://127\.0\.0\.1:9/api: no Prefect server answers"
    ):
        server_address()


def test_metrics_become_a_compact_table() -> None:
    metrics = {
        "loss": 0.123456,
        "single": {"mean": {"rank-1": 0.30004, "mAP": 0.2}, "std": {"rank-1": 0.02}, "random": {"mAP": 1}},
        "conditions": "not a number",
        "empty": {},
    }

    rows = summary.metric_rows(metrics)

    assert rows == [
        {"of": "all", "loss": "0.1235"},
        {"of": "single", "rank-1": "0.3 ± 0.02", "mAP": "0.2"},
        {"of": "single.random", "mAP": "1"},
    ]
    assert summary.text_table(rows[1:]) == (
        "of             rank-1      mAP\n"
        "single         0.3 ± 0.02  0.2\n"
        "single.random              1"
    )  # fmt: skip


def test_a_large_picture_is_made_small(tmp_path: Path) -> None:
    import base64
    import io

    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (1500, 3000, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    text = summary.inline_picture("noise", tmp_path / "noise.png")

    assert text is not None
    kind, data = text.removeprefix("![noise](data:image/").removesuffix(")").split(";base64,")
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    assert kind == "jpeg"
    assert picture.size == (900, 450)
    assert len(data) < 1_000_000
    (tmp_path / "text.png").write_text("no picture")
    assert summary.inline_picture("text", tmp_path / "text.png") is None
