"""The tables, and that a failing section leaves the others as they are."""

import importlib
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import __main__ as command
from benchmarks.__main__ import SectionFailedError
from benchmarks.tables import JSON, Row, Section, Target, document, number, table, targets
from benchmarks.timing import Settings

FACTS = {
    "date": "2026-01-02",
    "processor": "X (avx2)",
    "cores": 2,
    "memory_GiB": 24,
    "system": "Linux",
    "python": "3.11",
    "versions": {"torch": "2.15.0", "openvino": "not installed"},
    "gpu": "none",
    "load": 0.1,
}
ROWS = [
    Row("plain", value=8000.0, unit="ms", quartiles=[7900.0, 8100.0], times=1.0, limit="4 s", share=0.5),
    Row("ours | bf16", value=2.5, unit="ms", times=3.456, note="4 images/s"),
    Row("elsewhere", note="not installed"),
]
SECTION = Section(
    key="training",
    title="Training step",
    text="Of something.",
    reference="plain",
    rows=ROWS,
    targets=[
        Target("fast", 2.6, 2.4, least=True, unit="x"),
        Target("quick", 45.0, 30, least=False, unit="ms"),
        Target("share", None, 70, least=True, unit="%", reason="not applicable: no bf16 instructions"),
        Target("other", None, 1, least=True, unit="s"),
    ],
    limits={"fp32 product, GFLOP/s": 123.4},
)


def cells(markdown: str) -> list[list[str]]:
    """A table's cells, its second line left out; every line must have as many."""
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in markdown.splitlines()]
    assert len({len(line) for line in lines}) == 1
    assert set(lines[1]) == {" --- "}
    return [[cell.strip() for cell in line] for line in (lines[0], *lines[2:])]


def test_a_table_has_the_columns_that_are_used() -> None:
    assert cells(table(ROWS)) == [
        ["What", "Median", "Quartiles", "Times the reference", "Limit", "Share of it", "Note"],
        ["plain", "8,000 ms", "7,900 to 8,100", "1 x", "4 s", "50 %", ""],
        ["ours \\| bf16", "2.5 ms", "", "3.46 x", "", "", "4 images/s"],
        ["elsewhere", "", "", "", "", "", "not installed"],
    ]
    assert cells(table([Row("a", value=1.0, unit="s")]))[0] == ["What", "Median"]
    assert table([]) == ""


def test_targets_are_met_missed_or_neither() -> None:
    assert cells(targets(SECTION.targets))[1:] == [
        ["fast", "2.6 x", "at least 2.4 x", "met"],
        ["quick", "45 ms", "at most 30 ms", "MISSED"],
        ["share", "", "at least 70 %", "not applicable: no bf16 instructions"],
        ["other", "", "at least 1 s", "not measured"],
    ]


def test_three_digits_count() -> None:
    shown = {0.0: "0", 0.001234: "0.00123", 2.345: "2.35", 99.94: "99.9", 123.4: "123", 45678.9: "45,679"}
    assert {value: number(value) for value in shown} == shown


def test_the_document_says_where_and_whether_others_were_at_work() -> None:
    text = document(FACTS, [SECTION])
    parts = ("2026-01-02", "2 cores of X (avx2)", "openvino not installed", "GPU: none", "## Training step")
    assert [part for part in parts if part not in text] == []
    assert "fp32 product, GFLOP/s: 123" in text
    assert "busy" not in text
    assert "busy** (load 1.5" in document({**FACTS, "load": 1.5}, [SECTION])


def test_a_section_survives_json() -> None:
    text = JSON.dump_json(SECTION)
    assert JSON.validate_json(text) == SECTION
    assert json.loads(text)["targets"][1]["verdict"] == "MISSED"


def test_a_section_that_fails_is_said_and_the_others_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(key: str, settings: Settings, *, timeout: float) -> Section:
        if key == "ranking":
            raise SectionFailedError("failed with exit status 9")
        return SECTION

    monkeypatch.setattr(command, "measure", measure)
    assert command.run_sections(["ranking", "training"], Settings(), tmp_path) is False
    assert "error: ranking: failed with exit status 9" in capsys.readouterr().err
    text = (tmp_path / "bench.md").read_text()
    assert "**Not measured**: failed with exit status 9." in text
    assert "| plain | 8,000 ms |" in text
    assert [s["key"] for s in json.loads((tmp_path / "bench.json").read_text())["sections"]] == [
        "ranking",
        "training",
    ]
    assert command.run_sections(["training"], Settings(), tmp_path) is True


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["speed"], "no-op"), *((["--batch", batch], "multiple of 8") for batch in ("8", "20", "-16"))],
)
def test_names_of_sections_and_batches_are_checked(arguments: list[str], named: str) -> None:
    done = CliRunner().invoke(command.app, arguments)
    assert done.exit_code == 2
    assert named in " ".join(done.output.replace("│", " ").split())


def test_sections_run_in_their_order_with_the_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, Settings]] = []
    monkeypatch.setattr(
        command, "measure", lambda name, settings, **_: seen.append((name, settings)) or SECTION
    )
    asked = ["--quick", "--batch", "64", "training", "input", "--out", str(tmp_path)]
    assert CliRunner().invoke(command.app, asked).exit_code == 0
    settings = Settings(quick=True, batch=64)
    assert seen == [("input", settings), ("training", settings)]


@pytest.mark.parametrize("name", command.SECTIONS)
def test_each_section_has_its_function(name: str) -> None:
    module, function = command.SECTIONS[name].split(".")
    assert callable(getattr(importlib.import_module(f"benchmarks.{module}"), function))
