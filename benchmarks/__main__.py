"""All benchmarks: `python -m benchmarks`, or some sections: `python -m benchmarks --quick training input`.

Each section runs in its own process: its memory is free afterwards, and a failure leaves the other sections alone.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.tables import Section, facts, table, targets, write_report
from benchmarks.timing import Settings
from pipelines.stages.paths import write_json

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "results" / "bench"
SECTIONS = ("input", "feeding", "training", "embedding", "ranking", "startup", "no-op", "growth")
TIMEOUT, TIMEOUT_COMPILED = 600.0, 1800.0  # seconds for a section; most take one or two minutes
FAILED, INTERRUPTED = 1, 130


class SectionFailedError(Exception):
    """A section ended without a result; the message gives the reason."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line. Exit code 1: a section failed; the other sections are in the report."""
    options = parser().parse_args(arguments)
    settings = Settings(quick=options.quick, compile=options.compile, batch=options.batch)
    if options.result:
        write_json(options.result, section(options.sections[0])(settings).as_dict())
        return
    chosen = [key for key in SECTIONS if key in options.sections or not options.sections]
    partial = options.quick or len(chosen) < len(SECTIONS)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        complete = run_sections(chosen, settings, options.out or (OUT / "partial" if partial else OUT))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    if not complete:
        sys.exit(FAILED)


def parser() -> argparse.ArgumentParser:
    """Its arguments."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures speed in interleaved turns, each figure next to its limit. Device and threads: "
        "MSCLNET_DEVICE, MSCLNET_THREADS.",
    )
    names = ", ".join(SECTIONS)
    made.add_argument(
        "sections", nargs="*", type=key, metavar="SECTION", help=f"some of: {names} (default: all)"
    )
    made.add_argument(
        "--quick", action="store_true", help="small sizes and two turns: shows that it works, decides nothing"
    )
    made.add_argument(
        "--compile",
        action="store_true",
        help="torch.compile in the training step as well; it takes minutes to start",
    )
    made.add_argument(
        "--batch",
        type=batch,
        default=0,
        metavar="N",
        help="images of a training step, a multiple of 8 from 16 on (default: 32, on a GPU 64)",
    )
    folder = f"default: {OUT.relative_to(ROOT)}, or its folder `partial` for less than everything"
    made.add_argument("--out", type=Path, metavar="FOLDER", help=folder)
    made.add_argument(
        "--result", type=Path, help=argparse.SUPPRESS
    )  # of one section, measured in this process
    return made


def key(text: str) -> str:
    """The name of a section."""
    if text not in SECTIONS:
        raise argparse.ArgumentTypeError(f"expected some of {', '.join(SECTIONS)}, not {text!r}")
    return text


def batch(text: str) -> int:
    """A training step's images: two identities at least, with four images of each modality."""
    if not (text.isascii() and text.isdigit() and int(text) >= 16 and int(text) % 8 == 0):
        raise argparse.ArgumentTypeError(f"expected a multiple of 8 from 16 on, not {text!r}")
    return int(text)


def section(name: str) -> Callable[[Settings], Section]:
    """The function that measures a section; only its own libraries are imported."""
    match name:
        case "input" | "feeding":
            from benchmarks import input

            return input.run if name == "input" else input.feeding
        case "startup" | "no-op":
            from benchmarks import stages

            return stages.startup if name == "startup" else stages.no_op
        case "training":
            from benchmarks.training import run
        case "embedding":
            from benchmarks.embedding import run
        case "ranking":
            from benchmarks.ranking import run
        case _:
            from benchmarks.growth import run
    return run


def measure(name: str, settings: Settings, *, timeout: float) -> Section:
    """One section, measured in its own process.

    Raises:
        SectionFailedError: It failed or took longer than `timeout` seconds; its messages are on standard error.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "section.json"
        command = [sys.executable, "-m", "benchmarks", name, "--result", str(out)]
        command += [f"--{option}" for option in ("quick", "compile") if getattr(settings, option)]
        command += ["--batch", str(settings.batch)] if settings.batch else []
        process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise SectionFailedError(f"stopped after {timeout / 60:.0f} minutes") from error
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if status:
            raise SectionFailedError(f"failed with exit status {status}")
        return Section.from_dict(json.loads(out.read_text(encoding="utf-8")))


def run_sections(chosen: Sequence[str], settings: Settings, out: Path) -> bool:
    """Measure, print, and write the report after each section; returns whether every section gave its result."""
    where, sections, complete = facts(), list[Section](), True
    for name in chosen:
        started = time.perf_counter()
        print(f"{name} ...", flush=True)
        try:
            found = measure(name, settings, timeout=TIMEOUT_COMPILED if settings.compile else TIMEOUT)
        except SectionFailedError as error:
            complete = False
            found = Section(key=name, title=name.capitalize(), text=f"**Not measured**: {error}.")
            print(f"error: {name}: {error}", file=sys.stderr, flush=True)
        sections.append(found)
        write_report(out, where, sections)
        print(f"{table(found.rows)}\n({time.perf_counter() - started:.0f} s)\n", flush=True)
    print(targets(sections))
    print(f"\nall of it: {out / 'bench.md'}")
    return complete


if __name__ == "__main__":
    main()
