"""`python -m pipelines.preset`: what it says of each value that it changes."""

import shutil
from pathlib import Path

import pytest

from pipelines.preset import write_preset

PRESETS = Path(__file__).resolve().parents[2] / "presets"


def test_each_change_is_told_and_what_is_new_or_empty_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(PRESETS, "presets")
    shutil.copy(PRESETS / "synthetic.yaml", "params.yaml")
    write_preset("sysu-mm01")
    lines = capsys.readouterr().out.splitlines()
    assert "  download.dataset: synthetic -> sysu-mm01" in lines
    assert "  download.source: msclnet/synthetic -> data/source/sysu-mm01" in lines
    assert Path("params.yaml").read_bytes() == (PRESETS / "sysu-mm01.yaml").read_bytes()
    write_preset("sysu-mm01")
    assert capsys.readouterr().out == "params.yaml is now presets/sysu-mm01.yaml; 0 values changed\n"
