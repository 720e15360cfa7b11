"""All benchmarks: `python -m benchmarks`, or some of them: `python -m benchmarks --only training,embedding --quick`."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.core.facts import facts
from benchmarks.core.presets import ROOT
from benchmarks.core.result import Section
from benchmarks.core.settings import Settings
from benchmarks.isolated import SectionFailedError, measure
from benchmarks.one_section import SECTIONS
from benchmarks.report.markdown import table, targets
from benchmarks.report.write import write_report
from pipelines.orchestration.stage_process import sigterm_raises

OUT = ROOT / "results" / "bench"
TIMEOUT, TIMEOUT_COMPILED = 600.0, 1800.0  # seconds for a section; most take one or two minutes
FAILED, INTERRUPTED = 1, 130


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line. Exit code 1: a section failed; the others are in the report all the same."""
    options = parser().parse_args(arguments)
    partial = options.quick or set(options.only) != set(SECTIONS)
    out = options.out or (OUT / "partial" if partial else OUT)
    settings = Settings(quick=options.quick, compile=options.compile, batch=options.batch)
    try:
        with sigterm_raises():
            whole = run(options.only, settings, out)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    if not whole:
        sys.exit(FAILED)


def parser() -> argparse.ArgumentParser:
    """Its arguments."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures speed in interleaved turns, each figure beside its limit. Device and threads: "
        "MSCLNET_DEVICE, MSCLNET_THREADS.",
    )
    made.add_argument(
        "--only",
        type=keys,
        default=list(SECTIONS),
        metavar="A,B",
        help=f"some of: {', '.join(SECTIONS)} (default: all)",
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
    made.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help=f"default: {OUT.relative_to(ROOT)}, or its folder `partial` for less than everything",
    )
    return made


def keys(text: str) -> list[str]:
    """Names of sections, in the report's order."""
    asked = [key.strip() for key in text.split(",") if key.strip()]
    unknown = [key for key in asked if key not in SECTIONS]
    if unknown or not asked:
        raise argparse.ArgumentTypeError(
            f"expected some of {', '.join(SECTIONS)}, not {', '.join(unknown) or 'nothing'}"
        )
    return [key for key in SECTIONS if key in asked]


def batch(text: str) -> int:
    """Two identities at least, with four images of each modality."""
    if not (text.isascii() and text.isdigit() and int(text) >= 16 and int(text) % 8 == 0):
        raise argparse.ArgumentTypeError(f"expected a multiple of 8 from 16 on, not {text!r}")
    return int(text)


def run(chosen: Sequence[str], settings: Settings, out: Path) -> bool:
    """Measure, print and write what there is after each section.

    Returns:
        Whether every section gave its result.
    """
    where, sections, whole = facts(), list[Section](), True
    for key in chosen:
        started = time.perf_counter()
        print(f"{key} ...", flush=True)
        try:
            section = measure(key, settings, timeout=TIMEOUT_COMPILED if settings.compile else TIMEOUT)
        except SectionFailedError as error:
            section, whole = (
                Section(key=key, title=key.capitalize(), text=f"**Not measured**: {error}."),
                False,
            )
            print(f"error: {key}: {error}", file=sys.stderr, flush=True)
        sections.append(section)
        write_report(out, where, sections)
        print(f"{table(section.rows)}\n({time.perf_counter() - started:.0f} s)\n", flush=True)
    print(targets(sections))
    print(f"\nall of it: {out / 'bench.md'}")
    return whole


if __name__ == "__main__":
    main()
