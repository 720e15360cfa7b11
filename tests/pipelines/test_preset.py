"""The presets' values, and the params.yaml that the command `preset` writes from them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from msclnet.errors import UserError
from pipelines.stages.config import flatten, load_params, read_yaml
from pipelines.stages.presets import load_preset, preset_names, write_preset

ROOT = Path(__file__).resolve().parents[2]
# The values of every preset, one key a line; `otherwise` is the value of the presets that the line does not name.
VALUES: dict[str, dict[str, Any]] = json.loads(
    (ROOT / "tests/pipelines/preset_values.json").read_text(encoding="utf-8")
)
NAMES = preset_names(ROOT)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the presets and the default params.yaml, as the present folder."""
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def expected(name: str) -> dict[str, Any]:
    return {
        key: values.get(name, values.get("otherwise"))
        for key, values in VALUES.items()
        if name in values or "otherwise" in values
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_written_file_has_the_frozen_values(name: str, project: Path) -> None:
    write_preset(name)
    written = flatten(read_yaml(project / "params.yaml"))
    # Through JSON: 1, 1.0 and True are three different values.
    assert {key: json.dumps(value) for key, value in written.items()} == {
        key: json.dumps(value) for key, value in expected(name).items()
    }
    assert load_params(project / "params.yaml").model_dump(by_alias=True) == load_preset(name, project)


def test_ten_presets_are_frozen() -> None:
    named = {name for values in VALUES.values() for name in values} - {"otherwise"}
    assert named == set(NAMES)
    assert len(NAMES) == 10


def test_params_are_the_synthetic_preset() -> None:
    assert (ROOT / "params.yaml").read_bytes() == (ROOT / "presets/synthetic.yaml").read_bytes()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "synthetic"])
def test_an_overlay_states_differences_alone(name: str) -> None:
    overlay = flatten(read_yaml(ROOT / f"presets/{name}.yaml"))
    base = flatten(load_preset(overlay.pop("extends"), ROOT))
    assert [key for key, value in overlay.items() if base.get(key) == value] == []


def test_each_change_is_printed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_preset("sysu-mm01")
    lines = capsys.readouterr().out.splitlines()
    assert "  download.dataset: synthetic -> sysu-mm01" in lines
    assert "  train.epochs: 20 -> 200" in lines
    write_preset("sysu-mm01")
    output = capsys.readouterr().out
    assert output.startswith("params.yaml now holds presets/sysu-mm01.yaml; 0 values changed\n")
    assert "ln -sfn /path/to/SYSU-MM01 data/source/sysu-mm01" in output
    Path("data/source").mkdir(parents=True)
    Path("data/source/sysu-mm01").symlink_to(project / "presets")
    write_preset("sysu-mm01")
    assert capsys.readouterr().out.count("\n") == 1


def test_comments_are_the_overlays_own_or_those_of_the_base(project: Path) -> None:
    (project / "presets/mine.yaml").write_text(
        "# Mine.\nextends: synthetic\nseed: 5 # five\naugment:\n  erasing: {probability: 0.1} # rarely\n"
        "tracking:\n  experiment: mine\n"
    )
    write_preset("mine")
    lines = (project / "params.yaml").read_text().splitlines()
    base = (project / "presets/synthetic.yaml").read_text().splitlines()
    assert lines[0] == "# Mine."
    assert lines[lines.index("seed: 5 # five") + 1].startswith("profile: 0 # ")
    assert "  erasing: # rarely" in lines
    assert "  backbone: slim # slim | resnet18 | resnet50" in lines
    sections = [line for line in base if line and line[0].isalpha()]
    assert [line.split(":")[0] for line in lines if line and line[0].isalpha()] == [
        s.split(":")[0] for s in sections
    ]
    assert lines.count("") == base.count("")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("extends: synthetik\n", ["'synthetik'", "did you mean 'synthetic'?"]),
        ("extends: synthetic\ntrian: {epochs: 3}\n", ["presets/mine.yaml", "trian", "did you mean 'train'?"]),
        ("extends: synthetic\ntrain: {epochs: many}\n", ["presets/mine.yaml", "train.epochs", "'many'"]),
        ("extends: mine\n", ["presets/mine.yaml", "'mine' extends itself"]),
        ("- 1\n", ["presets/mine.yaml", "no sections"]),
        ("a: [\n", ["presets/mine.yaml", "no valid YAML"]),
    ],
)
def test_mistakes_in_a_preset_are_named_and_params_stay(text: str, words: list[str], project: Path) -> None:
    (project / "presets/mine.yaml").write_text(text)
    before = (project / "params.yaml").read_bytes()
    with pytest.raises(UserError) as caught:
        write_preset("mine")
    assert [word for word in words if word not in str(caught.value)] == []
    assert (project / "params.yaml").read_bytes() == before


@pytest.mark.parametrize("broken", [None, "", "- 1", "a: ["])
def test_a_preset_replaces_params_that_cannot_be_read(
    broken: str | None, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Messages about a broken params.yaml name this command."""
    (project / "params.yaml").unlink()
    if broken is not None:
        (project / "params.yaml").write_text(broken)
    write_preset("smoke")
    assert load_params(project / "params.yaml").train.epochs == 3
    assert "  train.epochs: (no such key) -> 3" in capsys.readouterr().out
