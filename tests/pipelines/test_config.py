"""params.yaml: every mistake is found before anything runs, and named with its key, value and remedy."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from msclnet.errors import UserError
from pipelines.stages.config import Params, check_params, flatten, load_params, load_yaml, read_yaml

ROOT = Path(__file__).resolve().parents[2]
SYNTHETIC = ROOT / "presets/synthetic.yaml"


def values() -> dict[str, Any]:
    return YAML(typ="safe", pure=True).load(SYNTHETIC.read_text(encoding="utf-8"))


LEAVES = flatten(values())


def put(given: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    for section in sections:
        given = given[section]
    given[name] = value


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    """The preset with some values replaced or added, by dotted key."""
    given = values()
    for key, value in changes.items():
        put(given, key, value)
    return given


def refusal(given: Any) -> str:
    with pytest.raises(UserError) as caught:
        check_params(given, source="params.yaml")
    return str(caught.value)


def test_sections_are_the_files_values() -> None:
    params = check_params(values(), source="x")
    for name, section in values().items():
        if isinstance(section, dict):
            assert params.section(name) == section
    assert params.seed == values()["seed"]
    assert params.section("loss")["global"]["weight"] == 1.5


def test_no_key_has_a_default() -> None:
    """A default in code would be a parameter that DVC cannot see."""
    given = values()
    for key in LEAVES:
        *sections, name = key.split(".")
        section = given
        for part in sections:
            section = section[part]
        del section[name]
    lines = refusal(given).splitlines()[1:]
    assert sorted(line.strip().partition(";")[0] for line in lines) == sorted(
        f"{key}: this key is missing" for key in LEAVES
    )


def test_no_value_changes_its_type() -> None:
    """Text for a number, a number for text, a number for a switch: all are named with key and value."""
    wrong = {key: 7 if isinstance(value, (str, bool)) else str(value) for key, value in LEAVES.items()}
    lines = refusal(changed(wrong)).splitlines()[1:]
    found = dict(line.strip().split(": ", 1) for line in lines)
    assert set(found) == set(LEAVES)
    assert [key for key, value in wrong.items() if repr(value) not in found[key]] == []


def test_absurd_numbers_are_refused() -> None:
    """Typing errors must not exhaust memory; numbers without an upper bound must at least be finite."""
    absurd = {key: 10**400 if isinstance(value, float) else 10**30 for key, value in LEAVES.items()}
    lines = refusal(changed(absurd)).splitlines()[1:]
    assert {line.strip().partition(": ")[0] for line in lines} == set(LEAVES)
    assert max(map(len, lines)) < 300


def test_values_cannot_be_changed_later() -> None:
    params = check_params(values(), source="x")
    with pytest.raises(ValueError, match="frozen"):
        params.train.epochs = 3  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("train.epoch", "did you mean 'epochs'?"),
        ("lose", "did you mean 'loss'?"),
        ("loss.inter.margn", "did you mean 'margin'?"),
        ("loss.global_", "did you mean 'global'?"),
        ("model.zzzz", "there are: backbone, width,"),
    ],
)
def test_unknown_keys(key: str, words: str) -> None:
    message = refusal(changed({key: 1.0}))
    assert f"{key}: unknown key" in message
    assert words in message


def test_unknown_key_in_a_list() -> None:
    given = values()
    given["train"]["optimizer"]["schedule"][1]["rates"] = 0.1
    assert "train.optimizer.schedule.1.rates: unknown key (did you mean 'rate'?)" in refusal(given)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("seed", 2**32, [str(2**32)]),
        ("seed", True, ["True"]),
        ("train.epochs", 0, ["greater than or equal to 1", "0"]),
        ("train.epochs", 2.0, ["integer", "2.0"]),
        ("augment.flip", 1.01, ["less than or equal to 1", "1.01"]),
        ("train.norm_limit", float("inf"), ["finite"]),
        ("loss.sub.weight", float("nan"), ["nan"]),
        ("loss.sub.weight", -1.0, ["-1.0"]),
        ("model.backbone", "resnet101", ["'slim', 'resnet18' or 'resnet50'", "resnet101"]),
        ("model.last_stride", 3, ["1 or 2", "3"]),
        ("augment.erasing.area", [0.1], ["2 items"]),
        ("evaluate.shots", [], ["1 item"]),
        ("model", None, ["None"]),
        ("tracking.experiment", "", ["''"]),
    ],
)
def test_values_out_of_range(key: str, value: Any, words: list[str]) -> None:
    message = refusal(changed({key: value}))
    assert [word for word in [f"  {key}: ", *words] if word not in message] == []
    assert len(message.splitlines()) == 2


def steps(*starts: int) -> list[dict[str, Any]]:
    return [{"from_epoch": start, "rate": 0.1} for start in starts]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"augment.erasing.area": [0.4, 0.02]}, ["augment.erasing", "area must be [smallest, largest]"]),
        ({"model.weights": "imagenet"}, ["model", "weights must be 'none'", "imagenet"]),
        ({"train.batch.sampling": "two_per_camera", "train.batch.images": 3}, ["train.batch", "even", "3"]),
        ({"train.optimizer.schedule": steps(2)}, ["train.optimizer", "start with from_epoch 1", "[2]"]),
        ({"train.optimizer.schedule": steps(1, 5, 5)}, ["train.optimizer", "[1, 5, 5]"]),
        ({"train.optimizer.schedule": steps(1, 9, 5)}, ["train.optimizer", "[1, 9, 5]"]),
        ({"train.optimizer.momentum": 0.0}, ["train.optimizer", "nesterov"]),
        ({"synergy.teacher": "mutual"}, ["synergy.teacher 'mutual'", "loss.synergy_identity"]),
        ({"synergy.teacher": "logits_mean"}, ["'logits_mean'", "'mogrifier' or 'parts_mean'"]),
        (
            {"synergy.teacher": "parts_mean", "synergy.residual": "none"},
            ["synergy.residual must be 'mean'"],
        ),
        ({"preprocess.validation": "none", "train.keep": "best"}, ["train.keep", "preprocess.validation"]),
        ({"evaluate.samplers": ["agw", "official"]}, ["evaluate.permutations"]),
    ],
)
def test_values_that_do_not_go_together(changes: dict[str, Any], words: list[str]) -> None:
    message = refusal(changed(changes))
    assert [word for word in words if word not in message] == []


def test_a_loss_without_terms() -> None:
    given = values()
    for term in given["loss"].values():
        if isinstance(term, dict) and "on" in term:
            term["on"] = False
    assert "at least one term must be on" in refusal(given)
    given["loss"]["identity"] |= {"on": True, "weight": 0.0}
    assert "at least one term must be on" in refusal(given)


@pytest.mark.parametrize("teacher", ["mutual", "logits_mean"])
def test_teachers_without_a_branch_are_accepted_where_nothing_needs_one(teacher: str) -> None:
    given = changed({"synergy.teacher": teacher})
    for name in ("synergy_identity", "local", "global"):
        given["loss"][name]["on"] = False
    assert check_params(given, source="x").synergy.teacher == teacher
    given["loss"]["cascade"]["synergistic"] = True
    assert "loss.cascade.synergistic" in refusal(given)


def test_every_mistake_is_named_at_once() -> None:
    wrong = {
        "train.epochs": 0,
        "model.backbone": "vgg",
        "augment.flip": "often",
        "loss.sub.wieght": 1.0,
        "seed": -5,
    }
    given = changed(wrong)
    del given["embed"]["batch"]
    message = refusal(given)
    for key in (*wrong, "embed.batch"):
        assert f"  {key}: " in message
    assert len(message.splitlines()) == 7
    assert message.startswith("params.yaml is not valid:")


@pytest.mark.parametrize("written", ["1e-3", "1.0e-3", "1E-3", "0.001"])
def test_exponents_are_numbers(written: str) -> None:
    assert load_yaml(f"rate: {written}", source="x") == {"rate": 0.001}


def test_whole_numbers_are_fractions_too() -> None:
    assert check_params(changed({"augment.flip": 1}), source="x").augment.flip == 1


@pytest.mark.parametrize("word", ["yes", "on", "off", "no"])
def test_words_of_old_yaml_are_words(tmp_path: Path, word: str) -> None:
    """YAML 1.1 would read the key `on` of each loss as true."""
    (tmp_path / "a.yaml").write_text(f"{word}: {word}\n", encoding="utf-8")
    assert read_yaml(tmp_path / "a.yaml") == {word: word}


@pytest.mark.parametrize(
    ("dataset", "source", "fitting"),
    [
        ("sysu-mm01", "msclnet/synthetic", "data/source/sysu-mm01"),
        ("llcm", "/archives/LLCM.zip", "data/source/llcm"),
        ("synthetic", "data/source/synthetic", "msclnet/synthetic"),
    ],
)
def test_the_source_fits_the_data_set(dataset: str, source: str, fitting: str) -> None:
    message = refusal(changed({"download.dataset": dataset, "download.source": source}))
    for part in ("download", fitting, source, "data/source/README.md"):
        assert part in message
    assert check_params(changed({"download.dataset": dataset, "download.source": fitting}), source="x")


@pytest.mark.parametrize("place", ["/home/me/rand_perm_cam.mat", "data/permutations/../p.mat", "p.mat"])
def test_permutations_lie_where_dvc_sees_them(place: str) -> None:
    message = refusal(changed({"evaluate.permutations": place}))
    assert place in message
    assert "data/permutations/" in message


def test_a_section_in_the_place_of_a_value_is_not_quoted_whole() -> None:
    message = refusal(changed({"seed": {"everything": values(), "again": [values()] * 50}}))
    assert "seed: " in message
    assert len(message) < 1000


def test_a_missing_file_names_the_command_that_writes_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"params\.yaml: no such file; .*`msclnet preset synthetic`"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    "content",
    [
        b"a: [1, 2\n",
        b"\ta: 1\n",
        b"a: 1\na: 2\n",
        b"\xff\xfe\x00",
        b"a: !!python/object/apply:os.system [exit]\n",
        b"a: 2001-13-01\n",
        b"a: !!bool perhaps\n",
        b"- " * 20_000,
    ],
    ids=["bracket", "tab", "twice", "bytes", "object", "month", "bool", "nested"],
)
def test_no_yaml(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "params.yaml").write_bytes(content)
    with pytest.raises(UserError, match=r"params\.yaml is no valid YAML"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("content", ["", "- 1\n- 2\n", "just text\n"])
def test_yaml_without_sections(tmp_path: Path, content: str) -> None:
    (tmp_path / "params.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"params\.yaml holds no sections"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("key", [1, None, 2.5])
def test_keys_that_are_no_words(key: Any) -> None:
    given = values()
    given["train"][key] = 1
    assert "train" in refusal(given)


@pytest.mark.parametrize(("height", "width"), [(32, 16), (48, 24), (50, 50)])
def test_images_too_small_for_the_network(height: int, width: int) -> None:
    """Instance normalisation needs more than one place in the maps: slim leaves one for each 48 pixels."""
    assert "preprocess" in refusal(changed({"preprocess.height": height, "preprocess.width": width}))


def test_accepted_image_sizes_can_be_trained_on() -> None:
    import torch

    from msclnet.models.build import build_network

    height, width = 51, 24
    params = check_params(changed({"preprocess.height": height, "preprocess.width": width}), source="x")
    model = params.section("model") | {"width": 8}
    images = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    network = build_network({"identities": 2, "model": model, "synergy": params.section("synergy")})
    assert network(images, images).maps.shape[2:].numel() > 1


def models(schema: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield schema
    for field in schema.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from models(field.annotation)


def test_every_model_of_the_schema_is_strict_and_without_defaults() -> None:
    found = list(models(Params))
    assert len(found) > 20
    for model in found:
        assert model.model_config.get("extra") == "forbid"
        assert model.model_config.get("strict")
        assert all(field.is_required() for field in model.model_fields.values()), model
