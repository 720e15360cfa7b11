"""What an audit says and how it ends, with stand-ins for pip-audit, and with pip-audit itself where nobody answers."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines import audit as audit_module
from pipelines.advisories import KNOWN_TO_BE_VULNERABLE
from pipelines.audit import CLEAN, FOUND, NOT_RUN, Verdict, audit, main

ROOT = Path(__file__).resolve().parents[2]
DJANGO = {"name": "django", "version": "2.0", "vulns": [{"id": "PYSEC-2018-4", "fix_versions": ["2.0.2"]}]}
SOUND = {"name": "numpy", "version": "2.4.6", "vulns": []}
UNKNOWN = {"name": "inhouse", "skip_reason": "Dependency not found and could not be audited: inhouse (1.0)"}
EDITABLE = {"name": "msclnet", "skip_reason": "distribution marked as editable"}
BAD = {
    "name": "pillow",
    "version": "9.0.0",
    "vulns": [
        {"id": "PYSEC-2022-9", "aliases": ["CVE-2022-22816"], "fix_versions": ["9.0.1", "10.0"]},
        {"id": "GHSA-x", "aliases": [], "fix_versions": []},
    ],
}
# Answers the first question from known.json and the second one from packages.json, as pip-audit does.
STAND_IN = """
import json, pathlib, sys, time
here = pathlib.Path(__file__).parent
arguments = sys.argv[1:]
with (here / "asked.jsonl").open("a") as log:
    log.write(json.dumps(arguments) + "\\n")
output = pathlib.Path(arguments[arguments.index("--output") + 1])
known = "known.txt" in " ".join(arguments)
answer = json.loads((here / ("known.json" if known else "packages.json")).read_text())
if "sleep" in answer:
    time.sleep(answer["sleep"])
if "text" in answer:
    output.write_text(answer["text"])
sys.stderr.write(answer.get("errors", ""))
sys.exit(answer["exit"])
"""


def answering(*packages: dict[str, Any], status: int = 0) -> dict[str, Any]:
    return {"text": json.dumps({"dependencies": list(packages), "fixes": []}), "exit": status}


def run(
    folder: Path, packages: dict[str, Any], *, known: dict[str, Any] | None = None, **options: Any
) -> Verdict:
    (folder / "stand_in.py").write_text(STAND_IN)
    (folder / "known.json").write_text(json.dumps(known or answering(DJANGO, status=1)))
    (folder / "packages.json").write_text(json.dumps(packages))
    return audit(program=[sys.executable, str(folder / "stand_in.py")], **options)


def asked(folder: Path) -> list[list[str]]:
    return [json.loads(line) for line in (folder / "asked.jsonl").read_text().splitlines()]


def test_clean(tmp_path: Path) -> None:
    verdict = run(tmp_path, answering(SOUND, SOUND), service="osv")
    assert verdict == Verdict(
        CLEAN, "clean: no known vulnerability in any of the 2 packages of constraints.txt"
    )
    first, second = asked(tmp_path)
    assert str(ROOT / "constraints.txt") in second
    for arguments in (first, second):
        assert arguments[:2] == ["--vulnerability-service", "osv"]
        assert {"--no-deps", "--disable-pip"} <= set(arguments)


def test_found(tmp_path: Path) -> None:
    verdict = run(tmp_path, answering(SOUND, BAD, UNKNOWN, status=1))
    assert verdict.status == FOUND
    assert verdict.text.splitlines() == [
        "found: 2 known vulnerabilities in 1 of 2 packages of constraints.txt",
        "  pillow 9.0.0: PYSEC-2022-9 (CVE-2022-22816), fixed in 9.0.1, 10.0",
        "  pillow 9.0.0: GHSA-x, fixed in no release yet",
        "not checked: 1 of 3 packages, unknown to the service: inhouse",
    ]


def test_what_could_not_be_checked_is_not_clean(tmp_path: Path) -> None:
    """pip-audit ends with 0 and `No known vulnerabilities found` in both cases."""
    partly = run(tmp_path, answering(SOUND, UNKNOWN))
    assert partly.status == NOT_RUN
    assert partly.text.startswith("incomplete: nothing is known against the other 1\nnot checked: 1 of 2")
    wholly = run(tmp_path, answering(UNKNOWN, UNKNOWN))
    assert wholly.status == NOT_RUN
    assert wholly.text.startswith("not run: not one package of constraints.txt could be checked")


def test_a_service_without_advisories_is_found_out_before_anything_is_asked(tmp_path: Path) -> None:
    """A mirror that has packages and no advisories: everything would look clean."""
    for said in ({**DJANGO, "vulns": []}, {"name": "django", "skip_reason": "not found"}):
        verdict = run(tmp_path, answering(SOUND), known=answering(said))
        assert verdict.status == NOT_RUN
        assert verdict.text.startswith(
            "not run: the advisory service has no advisories: of django==2.0, which"
        )
    assert all("constraints.txt" not in " ".join(arguments) for arguments in asked(tmp_path))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (
            {"exit": 1, "errors": "Traceback\nrequests.ConnectionError: HTTPSConnectionPool(host='x', port=443): Max "
            "retries exceeded (Caused by NameResolutionError('[Errno -2] Name or service not known'))\n"},
            "[Errno -2] Name or service not known",
        ),
        ({"exit": 1, "errors": "ERROR:pip_audit._cli:Could not connect\nmore\n"}, "Could not connect"),
        ({"exit": 1, "errors": "python: No module named pip_audit\n"}, "No module named pip_audit"),
        ({"exit": 0, "text": "no JSON"}, "it said nothing"),
        ({"exit": 0, "text": '{"dependencies": []}'}, "it said nothing"),
        ({"exit": 0, "text": '{"dependencies": [{"version": "1"}]}'}, "it said nothing"),
        ({"exit": 0, "text": "[1]"}, "it said nothing"),
        ({"exit": 137}, "exit status 137"),
        ({"exit": 0, "sleep": 60}, "did not end within 2 s"),
    ],
    ids=["no network", "no connection", "not installed", "no JSON", "nothing", "nameless", "list", "killed", "hangs"],
)  # fmt: skip
@pytest.mark.parametrize("when", ["first", "second"])
def test_not_run(tmp_path: Path, answer: dict[str, Any], reason: str, when: str) -> None:
    """The very exit status of vulnerabilities, and yet none was found."""
    known, packages = (answer, answering(SOUND)) if when == "first" else (None, answer)
    seconds = 2.0 if "sleep" in answer else 60.0
    verdict = run(tmp_path, packages, known=known, seconds=seconds)
    assert verdict.status == NOT_RUN
    assert verdict.text.startswith("not run: pip-audit ")
    assert reason in verdict.text
    assert verdict.text.endswith("Nothing was found out about constraints.txt.")


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    verdict = audit(program=[str(tmp_path / "none")])
    assert verdict.status == NOT_RUN
    assert "cannot be started (No such file or directory)" in verdict.text


def test_the_environment_is_asked_about_without_this_project(tmp_path: Path) -> None:
    verdict = run(tmp_path, answering(SOUND, EDITABLE), environment=True)
    assert verdict == Verdict(
        CLEAN, "clean: no known vulnerability in any of the 1 packages of what is installed"
    )
    assert asked(tmp_path)[1][-4:-2] == ["--local", "--skip-editable"]


def test_pip_audit_itself_where_nobody_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://me:hunter2xyz@127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path))
    assert main([]) == NOT_RUN
    text = capsys.readouterr().out
    assert text.startswith("not run: pip-audit gave no answer (exit status 1): ")
    assert "hunter2xyz" not in text


@pytest.mark.parametrize(("status", "ends"), [(CLEAN, 0), (FOUND, 2), (2, 2), (NOT_RUN, 0)])
def test_make_fails_for_vulnerabilities_alone(tmp_path: Path, status: int, ends: int) -> None:
    """make's own exit status for a command that fails is 2, whatever the command's was."""
    (tmp_path / "python").write_text(f'#!/bin/sh\necho asked "$@"\nexit {status}\n')
    (tmp_path / "python").chmod(0o755)
    command = ["make", "--silent", "audit", f"BIN={tmp_path}", "READY="]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == ends
    assert done.stdout == "asked -m pipelines.audit\n"


def test_the_known_release_is_not_one_of_ours() -> None:
    """pip-audit takes a package once only."""
    lines = audit_module.PACKAGES.read_text().splitlines()
    assert not [
        line for line in lines if line.lower().startswith(KNOWN_TO_BE_VULNERABLE.partition("=")[0] + "=")
    ]
    assert all("==" in line for line in lines)
