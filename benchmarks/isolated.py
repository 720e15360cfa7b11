"""Runs a section in a process of its own: its memory is free afterwards, and what fails takes nothing else with it."""

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks.core.presets import ROOT
from benchmarks.core.result import Section
from benchmarks.core.settings import Settings
from pipelines.orchestration.stage_process import end_group

GRACE = 5.0  # seconds that a stopped section has for ending by itself


class SectionFailedError(Exception):
    """A section ended without a result; the message says how."""


def measure(key: str, settings: Settings, *, timeout: float) -> Section:
    """One section's result.

    Args:
        key: See benchmarks.one_section.
        settings: For it.
        timeout: Seconds after which it is stopped.

    Raises:
        SectionFailedError: It failed or took too long; its own words went to standard error.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "section.json"
        command = [
            sys.executable,
            "-m",
            "benchmarks.one_section",
            key,
            json.dumps(asdict(settings)),
            str(out),
        ]
        process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            end_group(process, grace=GRACE)
            raise SectionFailedError(f"stopped after {timeout / 60:.0f} minutes") from error
        except BaseException:
            end_group(process, grace=GRACE)
            raise
        if status:
            raise SectionFailedError(f"failed with exit status {status}")
        return Section.from_dict(json.loads(out.read_text(encoding="utf-8")))
