from pathlib import Path

import pytest
from ruamel.yaml import YAML

from msclnet.errors import UserError
from pipelines.orchestration.experiments import apply_overrides, parse_settings
from pipelines.stages.presets import apply_preset

PARAMS = """\
# kept
train:
  epochs: 2   # kept, too
  rate: 1e-3
  name: "quoted"
  weights: {triplet: 1.0, local: 0.5}
evaluate:
  shots: [1, 10]
"""


@pytest.fixture
def params(tmp_path: Path) -> Path:
    file = tmp_path / "params.yaml"
    file.write_text(PARAMS)
    return file


def test_only_the_values_named_change(params: Path) -> None:
    apply_overrides(params, {"train.epochs": 3, "train": {"weights": {"local": 0.25}}, "evaluate.shots": [1]})

    values = YAML(typ="safe", pure=True).load(params.read_text())
    assert values == {
        "train": {"epochs": 3, "rate": 1e-3, "name": "quoted", "weights": {"triplet": 1.0, "local": 0.25}},
        "evaluate": {"shots": [1]},
    }
    lines = params.read_text().splitlines()
    assert lines[0] == "# kept"
    assert lines[2] == "  epochs: 3   # kept, too"
    assert lines[3:5] == PARAMS.splitlines()[3:5]


@pytest.mark.parametrize("same", [{"train.epochs": 2}, {"train.rate": 0.001}, {"train.name": "quoted"}])
def test_an_override_with_the_present_value_leaves_the_file_alone(params: Path, same: dict) -> None:
    apply_overrides(params, same)

    assert params.read_text() == PARAMS


@pytest.mark.parametrize(("value", "text"), [(2.0, "2.0"), (True, "true"), ("2", "'2'")])
def test_a_value_of_another_type_is_another_value(params: Path, value: object, text: str) -> None:
    apply_overrides(params, {"train.epochs": value})

    assert f"  epochs: {text} " in params.read_text()


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("train.epoch", "did you mean 'train.epochs'?"),
        ("epochs", "did you mean 'train.epochs'?"),
        ("train.weights", "train.weights.triplet, train.weights.local"),
        ("nothing.like.it", "has no such key"),
        ("train.epochs.last", "has no such key"),
    ],
)
def test_a_key_that_is_no_value_is_a_mistake_with_a_remedy(params: Path, key: str, words: str) -> None:
    with pytest.raises(UserError, match=f"^{key}") as error:
        apply_overrides(params, {key: 1})

    assert words in str(error.value)
    assert params.read_text() == PARAMS


def test_a_preset_takes_the_place_of_the_params(params: Path) -> None:
    folder = params.parent / "presets"
    folder.mkdir()
    (folder / "smoke.yaml").write_text("train: {epochs: 1}\n")

    with pytest.raises(UserError, match=r"no preset 'smok' in presets/ \(did you mean 'smoke'\?\)"):
        apply_preset(params.parent, "smok")
    with pytest.raises(UserError, match="no preset"):
        apply_preset(params.parent, "../presets/smoke")
    apply_preset(params.parent, "smoke")

    assert params.read_text() == "train: {epochs: 1}\n"


def test_settings_are_yaml_1_2() -> None:
    settings = ["a.rate=1e-3", "a.on=true", "b=no", "c=[1, 2]", "d=", "e=x=y"]

    assert parse_settings(settings) == {
        "a.rate": 1e-3,
        "a.on": True,
        "b": "no",
        "c": [1, 2],
        "d": "",
        "e": "x=y",
    }
    for wrong in ("train.epochs", "=3", "a=[1"):
        with pytest.raises(UserError, match="--set"):
            parse_settings([wrong])
