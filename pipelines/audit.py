"""Looks for known vulnerabilities of the packages that this project is tested with: `make audit`.

pip-audit asks an advisory service about each package of constraints.txt. It says "No known vulnerabilities found" also
when it could ask about none of them, as behind a mirror that has packages but no advisories. Hence the service is first
asked about a release that everybody knows to be vulnerable, and a package that it could not judge never counts as one
without advisories.

Exit status: 0 clean, every package was checked; 1 there are advisories; 2 a mistake on the command line; 3 not run, or
not every package could be checked. `make audit` lets 3 pass, so that it fails for vulnerabilities alone.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.advisories import Answer, ask, ask_about_known, listed
from pipelines.console import mask_tracebacks, tellable

CLEAN, FOUND, NOT_RUN = 0, 1, 3
PACKAGES = Path(__file__).resolve().parents[1] / "constraints.txt"
SECONDS = 900.0
SHOWN = 10
PROGRAM = (sys.executable, "-m", "pip_audit")


@dataclass(frozen=True)
class Verdict:
    """The exit status, and what is printed."""

    status: int
    text: str


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.audit",
        description="Looks for known vulnerabilities of the packages in constraints.txt. Exit status: 0 clean, "
        "1 found, 3 not run or not all checked.",
    )
    add = parser.add_argument
    add("--environment", action="store_true", help="what is installed here, instead of constraints.txt")
    add("--service", metavar="NAME", help="the advisory service, as pip-audit names it; default: its own")
    chosen = parser.parse_args(arguments)
    mask_tracebacks()
    verdict = audit(environment=chosen.environment, service=chosen.service)
    print(tellable(verdict.text))
    return verdict.status


def audit(
    *,
    environment: bool = False,
    service: str | None = None,
    packages: Path = PACKAGES,
    program: Sequence[str] = PROGRAM,
    seconds: float = SECONDS,
) -> Verdict:
    """Ask about a release that is known to be vulnerable, then about the packages.

    Args:
        environment: whether to ask about what is installed instead of `packages`.
        service: as pip-audit names it; None: pip-audit's own.
        packages: a file of `name==version` lines.
        program: the command that runs pip-audit.
        seconds: how long each of the two questions may take.
    """
    what = "what is installed" if environment else packages.name
    command = [*program, *(["--vulnerability-service", service] if service else [])]
    with tempfile.TemporaryDirectory() as folder:
        if reason := ask_about_known(command, folder=Path(folder), seconds=seconds):
            return judge(Answer([], reason), what)
        given = ["--local", "--skip-editable"] if environment else listed(packages)
        return judge(ask(command, given, folder=Path(folder), seconds=seconds), what)


def judge(answer: Answer, what: str) -> Verdict:
    """Turn an answer into an exit status and words.

    Args:
        answer: about the packages.
        what: how messages name them.
    """
    if answer.reason:
        return Verdict(NOT_RUN, f"not run: {answer.reason}. Nothing was found out about {what}.")
    # This project itself, where it is installed from its folder, is on no index.
    asked = [entry for entry in answer.packages if "editable" not in entry.get("skip_reason", "")]
    unknown = [entry["name"] for entry in asked if "skip_reason" in entry]
    checked = len(asked) - len(unknown)
    vulnerable = [entry for entry in asked if entry.get("vulns")]
    lines = []
    if vulnerable:
        number = sum(len(entry["vulns"]) for entry in vulnerable)
        packages = f"{len(vulnerable)} of {checked} packages of {what}"
        lines.append(f"found: {number} known vulnerabilities in {packages}")
        lines += [f"  {line}" for entry in vulnerable for line in _advisories(entry)]
    if unknown:
        names = ", ".join(unknown[:SHOWN]) + (" ..." if len(unknown) > SHOWN else "")
        lines.append(f"not checked: {len(unknown)} of {len(asked)} packages, unknown to the service: {names}")
    if vulnerable:
        return Verdict(FOUND, "\n".join(lines))
    if not checked:
        return Verdict(NOT_RUN, "\n".join([f"not run: not one package of {what} could be checked", *lines]))
    if unknown:
        return Verdict(
            NOT_RUN, "\n".join([f"incomplete: nothing is known against the other {checked}", *lines])
        )
    return Verdict(CLEAN, f"clean: no known vulnerability in any of the {checked} packages of {what}")


def _advisories(entry: dict[str, Any]) -> list[str]:
    lines = []
    for found in entry["vulns"]:
        aliases = f" ({', '.join(found['aliases'])})" if found.get("aliases") else ""
        fixed = ", ".join(found.get("fix_versions") or ()) or "no release yet"
        lines.append(f"{entry['name']} {entry.get('version')}: {found.get('id')}{aliases}, fixed in {fixed}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
