"""Asks pip-audit, and believes only an answer that says something about packages."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msclnet.tracking.masking import brief

KNOWN_TO_BE_VULNERABLE = "django==2.0"  # of 2017; has had advisories ever since


@dataclass(frozen=True)
class Answer:
    """What pip-audit came to, or why it came to nothing.

    Attributes:
        packages: an entry each: name, and either version and vulns or skip_reason.
        reason: why there is no answer; empty where there is one.
    """

    packages: list[dict[str, Any]]
    reason: str = ""


def ask_about_known(command: Sequence[str], *, folder: Path, seconds: float) -> str:
    """Why the service is of no use; empty where it knows of a release's vulnerabilities that everybody knows.

    Args:
        command: pip-audit with the options of both questions.
        folder: for files.
        seconds: how long it may take.
    """
    known = folder / "known.txt"
    known.write_text(f"{KNOWN_TO_BE_VULNERABLE}\n", encoding="utf-8")
    answer = ask(command, listed(known), folder=folder, seconds=seconds)
    if answer.reason or answer.packages[0].get("vulns"):
        return answer.reason
    said = answer.packages[0].get("skip_reason", "no known vulnerabilities")
    return f"the advisory service has no advisories: of {KNOWN_TO_BE_VULNERABLE}, which has many, it says {said!r}"


def ask(command: Sequence[str], given: Sequence[str], *, folder: Path, seconds: float) -> Answer:
    """One run of pip-audit.

    Args:
        command: pip-audit with the options of all questions.
        given: which packages.
        folder: for files.
        seconds: how long it may take.
    """
    output = folder / "answer.json"
    output.unlink(missing_ok=True)
    try:
        done = subprocess.run(
            [*command, "--format", "json", "--progress-spinner", "off", *given, "--output", str(output)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return Answer([], f"pip-audit did not end within {seconds:g} s")
    except OSError as error:
        return Answer([], f"pip-audit cannot be started ({error.strerror})")
    # Its exit status is 1 for vulnerabilities and for every trouble alike; only the answer tells them apart.
    try:
        packages = json.loads(output.read_text(encoding="utf-8"))["dependencies"]
        if not packages or not all(isinstance(entry["name"], str) for entry in packages):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        return Answer([], f"pip-audit gave no answer (exit status {done.returncode}): {_cause(done.stderr)}")
    return Answer(packages)


def listed(file: Path) -> list[str]:
    """The packages of a file of `name==version` lines, for `ask`: nothing is resolved, and no package is fetched."""
    return ["--requirement", str(file), "--no-deps", "--disable-pip"]


def _cause(errors: str) -> str:
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    told = [line for line in lines if "ERROR" in line]
    return brief(RuntimeError((told or lines or ["it said nothing"])[-1]))
