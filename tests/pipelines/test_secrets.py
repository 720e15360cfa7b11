"""A password in an address is never printed, logged or stored, wherever it is given and whatever goes wrong."""

from pathlib import Path

import pytest
import tiny_project
from test_stage import ADDRESS, PASSWORD

from msclnet.errors import UserError
from pipelines.cli import main
from pipelines.console import one_line, printable
from pipelines.orchestration.experiments import Experiment, apply_overrides, parse_settings
from pipelines.orchestration.runs import run_experiment


def held(folder: Path) -> list[Path]:
    """Files below a folder that hold the password."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path for path in files if PASSWORD.encode() in path.read_bytes()]


def test_terminal_codes_are_escaped() -> None:
    assert printable("\x1b[2Ja\tb\nc\r") == "\\x1b[2Ja\tb\nc\\r"
    assert one_line("a\nb\u202e\udcffc ü") == "a\\nb\\u202e\\udcffc ü"


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root, _ = tiny_project.setup(tmp_path, monkeypatch)
    monkeypatch.setenv("PREFECT_PORT", "9")
    monkeypatch.chdir(root)
    return root


def status(*arguments: str) -> object:
    with pytest.raises(SystemExit) as ended_with:
        main(arguments)
    return ended_with.value.code


def test_overrides_hold_none(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Refused before they reach a file, an experiment's name, a commit or Prefect."""
    for wrong in (f"train.rate={ADDRESS}", f"train.rate='{ADDRESS}'"):
        with pytest.raises(UserError, match=r"^train\.rate: this address may hold a password"):
            parse_settings([wrong])
    before = (tiny / "params.yaml").read_bytes()
    with pytest.raises(UserError, match="netrc"):
        apply_overrides(tiny / "params.yaml", {"train": {"rate": ADDRESS}})
    assert (tiny / "params.yaml").read_bytes() == before
    with pytest.raises(UserError, match="netrc"):
        run_experiment(tiny, Experiment({"train.rate": ADDRESS}))
    assert status("train", "--set", f"train.rate={ADDRESS}") == 2
    assert PASSWORD not in "".join(capsys.readouterr())
    assert tiny_project.git(tiny, "for-each-ref", "refs/exps") == ""
    assert held(tiny) == []


def test_what_a_stage_prints_is_masked_on_its_way(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program that knows nothing of masking: in the log and in the message of its failure."""
    monkeypatch.setenv("GIVEN", ADDRESS)
    train = (tiny / "train.py").read_text()
    (tiny / "train.py").write_text(f"{train}\nprint(os.environ['GIVEN'])\nassert 0, os.environ['GIVEN']\n")
    monkeypatch.setattr("pipelines.orchestration.experiments.load_params", lambda path: None)
    monkeypatch.setattr("pipelines.orchestration.runs.RETRIES", 0)
    assert status("train") == 1
    shown = "".join(capsys.readouterr())
    assert "AssertionError: https://***@host.example/a.zip" in shown
    assert PASSWORD not in shown
