"""No secret of an address or of the environment is shown or kept, wherever it is given and whatever goes wrong."""

import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import tiny_project
from test_stage import ended, start

from msclnet.errors import UserError
from msclnet.tracking.masking import mask
from pipelines import cli
from pipelines.console import in_one_line, tellable
from pipelines.experiments.plan import relevant
from pipelines.orchestration.overrides import apply_overrides, flatten, parse_settings
from pipelines.orchestration.prefect_server import server_address
from pipelines.orchestration.runs import Experiment, run_experiment
from pipelines.orchestration.service import Service, ServiceError
from pipelines.stages.config import load_params

ROOT = Path(__file__).resolve().parents[2]
PASSWORD, TOKEN = "hunt#er2x", "sig0123456789abcdef"
SECRETS = (PASSWORD, quote(PASSWORD, safe=""), TOKEN)
ADDRESS = f"https://me:{quote(PASSWORD, safe='')}@host.example/a.zip?X-Amz-Signature={TOKEN}"


def held(folder: Path) -> list[Path]:
    """Files below a folder that hold a secret."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path for path in files if any(secret.encode() in path.read_bytes() for secret in SECRETS)]


def shows(text: str) -> bool:
    return any(secret in text for secret in SECRETS)


@pytest.mark.parametrize(
    "body",
    [
        "raise UserError(f'no answer from {os.environ[\"GIVEN\"]}')",
        "raise ValueError(os.environ['GIVEN'])",
        "raise OSError(errno.ENOSPC, 'full', os.environ['GIVEN'])",
        "raise RuntimeError('password is ' + os.environ['MLFLOW_TRACKING_PASSWORD'])",
        "try:\n    raise KeyError(os.environ['GIVEN'])\nexcept KeyError as e:\n    raise RuntimeError('x') from e",
    ],
    ids=["mistake", "defect", "full disk", "bare password", "chain"],
)
def test_a_stage_shows_none_whatever_ends_it(
    tmp_path: Path, body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIVEN", ADDRESS)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    code, out, err = ended(start(tmp_path, body))
    assert code in (1, 2)
    assert "***" in err
    assert not shows(out + err)
    assert ("Traceback" in err) == (code == 1)


def test_terminal_codes_are_written_out() -> None:
    assert tellable("\x1b[2Ja\tb\nc\r") == "\\x1b[2Ja\tb\nc\\r"
    assert in_one_line("a\nb\u202e\udcffc ü") == "a\\nb\\u202e\\udcffc ü"


def test_the_records_of_experiments_do_not_know_the_place() -> None:
    """Records are committed. They hold what dvc.yaml names, and it does not name the place."""
    params = flatten(load_params(ROOT / "presets/sysu-mm01.yaml").model_dump(by_alias=True))
    assert "download.source" in params
    kept = relevant(ROOT, params, until="visualize")
    assert "download.dataset" in kept
    assert not [key for key in kept if key.startswith("download.source")]


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root, _ = tiny_project.setup(tmp_path, monkeypatch)
    monkeypatch.setenv("PREFECT_PORT", "9")
    monkeypatch.chdir(root)
    return root


def exit_status(*arguments: str) -> object:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    return ended.value.code


def test_overrides_hold_none(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Refused before they reach a file, an experiment's name, a commit or Prefect."""
    for wrong in (f"train.rate={ADDRESS}", f"train.rate='{ADDRESS}'"):
        with pytest.raises(UserError, match=r"^train\.rate: this address may hold a password"):
            parse_settings([wrong])
    before = (tiny / "params.yaml").read_bytes()
    with pytest.raises(UserError, match="MSCLNET_RAW"):
        apply_overrides(tiny / "params.yaml", {"train": {"rate": ADDRESS}})
    assert (tiny / "params.yaml").read_bytes() == before
    with pytest.raises(UserError, match="MSCLNET_RAW"):
        run_experiment(tiny, Experiment(overrides={"train.rate": ADDRESS}))
    assert exit_status("train", "--set", f"train.rate={ADDRESS}") == 2
    assert not shows("".join(capsys.readouterr()))
    assert tiny_project.git(tiny, "for-each-ref", "refs/exps") == ""
    assert held(tiny) == []


def test_what_a_stage_prints_is_masked_on_its_way(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program of another project, which knows nothing of masking, in the log and in the message of its failure."""
    monkeypatch.setenv("MSCLNET_RAW", ADDRESS)
    train = (tiny / "train.py").read_text()
    (tiny / "train.py").write_text(
        f"{train}\nprint(os.environ['MSCLNET_RAW'], '{TOKEN}')\nassert 0, '{PASSWORD}'\n"
    )
    monkeypatch.setattr("pipelines.orchestration.runs.RETRIES", 0)
    assert exit_status("train") == 1
    shown = "".join(capsys.readouterr())
    assert "https://***@host.example/a.zip?X-Amz-Signature=*** ***" in shown
    assert "AssertionError: ***" in shown
    assert not shows(shown)


def test_servers_that_do_not_answer_or_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"http://me:{PASSWORD}@127.0.0.1:9/api")
    with pytest.raises(
        UserError, match=r"PREFECT_API_URL=http://\*\*\*@127\.0\.0\.1:9/api does not"
    ) as caught:
        server_address()
    assert not shows(str(caught.value))
    program = f"raise SystemExit('cannot open postgresql://me:{PASSWORD}@db/mlflow')"
    command = [sys.executable, "-c", program]
    log = tmp_path / "server.log"
    service = Service.start("mlflow", command, log=log, folder=tmp_path, environment=dict(os.environ))
    with pytest.raises(ServiceError, match=r"cannot open postgresql://\*\*\*@db/mlflow") as ended_by_itself:
        service.wait_until(lambda: False, seconds=60)
    assert not shows(str(ended_by_itself.value))


def test_masking_is_no_garbling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words of everyday use are not taken for secrets."""
    settings: dict[str, Any] = {
        "X_TOKEN": "true",
        "A_PASSWORD": "x",
        "KEY_SECRET": "/run/secrets/key",
        "HOME": "/me",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MSCLNET_RAW", "https://host/a.zip?download=1&format=original")
    text = "download the original from /run/secrets/key: true, x = 1"
    assert mask(text) == text
