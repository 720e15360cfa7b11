"""All benchmarks: `python -m benchmarks`, or some sections: `python -m benchmarks --quick training input`.

Each section runs in its own process: its memory is free afterwards, and a failure leaves the other sections alone.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.tables import JSON, Section, facts, table, targets, write_report
from benchmarks.timing import Settings

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "results" / "bench"
SECTIONS = {  # on the command line -> module and function, imported where it is measured
    "input": "input.run",
    "feeding": "input.feeding",
    "training": "training.run",
    "embedding": "embedding.run",
    "ranking": "ranking.run",
    "startup": "stages.startup",
    "no-op": "stages.no_op",
    "growth": "growth.run",
    "gallery": "gallery.run",
    "million": "gallery.million",
}
TIMEOUT, TIMEOUT_COMPILED = 600.0, 1800.0  # seconds for a section; most take one or two minutes
FAILED, INTERRUPTED = 1, 130

app = typer.Typer(add_completion=False)


class SectionFailedError(Exception):
    """A section ended without a result; the message gives the reason."""


def known(names: list[str] | None) -> list[str]:
    """The sections that are meant, in the order of SECTIONS."""
    if unknown := set(names or ()) - set(SECTIONS):
        raise typer.BadParameter(f"expected some of {', '.join(SECTIONS)}, not {', '.join(unknown)}")
    return [name for name in SECTIONS if name in (names or SECTIONS)]


def whole_batch(images: int) -> int:
    """Two identities at least, with four images of each modality."""
    if images and (images < 16 or images % 8):
        raise typer.BadParameter(f"give a multiple of 8 from 16 on, not {images}")
    return images


@app.command()
def main(
    sections: Annotated[list[str] | None, typer.Argument(callback=known, help=", ".join(SECTIONS))] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="small sizes and two turns: shows that it works, decides nothing")
    ] = False,
    compiled: Annotated[
        bool,
        typer.Option("--compile", help="torch.compile in the training step too; it takes minutes to start"),
    ] = False,
    batch: Annotated[
        int, typer.Option(callback=whole_batch, help="images of a training step (default: 32, on a GPU 64)")
    ] = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="default: results/bench, or its folder `partial` for less than everything"),
    ] = None,
    result: Annotated[Path | None, typer.Option(hidden=True)] = None,  # of one section, measured here
) -> None:
    """Measure speed in interleaved turns, each figure next to its limit (default: all sections).

    Device and threads: MSCLNET_DEVICE, MSCLNET_THREADS. Exit code 1: a section failed; the others are in the report.
    """
    settings = Settings(quick=quick, compile=compiled, batch=batch)
    chosen = sections or []
    if result:
        module, function = SECTIONS[chosen[0]].split(".")
        run = getattr(import_module(f"benchmarks.{module}"), function)
        result.write_bytes(JSON.dump_json(run(settings)))
        return
    partial = quick or len(chosen) < len(SECTIONS)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        complete = run_sections(chosen, settings, out or (OUT / "partial" if partial else OUT))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    if not complete:
        sys.exit(FAILED)


def measure(name: str, settings: Settings, *, timeout: float) -> Section:
    """One section, measured in its own process; SectionFailedError where it fails or takes longer than `timeout`."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "section.json"
        command = [
            sys.executable,
            "-m",
            "benchmarks",
            name,
            "--result",
            str(out),
            "--batch",
            str(settings.batch),
        ]
        command += [f"--{option}" for option in ("quick", "compile") if getattr(settings, option)]
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
        return JSON.validate_json(out.read_bytes())


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
    print(targets(target for section in sections for target in section.targets))
    print(f"\nall of it: {out / 'bench.md'}")
    return complete


if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
