"""params.yaml: every mistake is found before anything runs, and told with its key, value and remedy."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from msclnet.errors import UserError
from pipelines.stages.config import Params, check_params, load_params, read_yaml

ROOT = Path(__file__).resolve().parents[2]
SYNTHETIC = ROOT / "presets/synthetic.yaml"


def values() -> dict[str, Any]:
    return YAML(typ="safe", pure=True).load(SYNTHETIC.read_text(encoding="utf-8"))


def changed(**changes: Any) -> dict[str, Any]:
    """The preset with some values replaced; `a__b=1` sets b in section a."""
    result = values()
    for key, value in changes.items():
        *sections, name = key.split("__")
        inner = result
        for section in sections:
            inner = inner[section]
        inner[name] = value
    return result


def refusal(given: Any) -> str:
    with pytest.raises(UserError) as caught:
        check_params(given, source="params.yaml")
    return str(caught.value)


def leaves(section: Any, *path: Any) -> Iterator[tuple[Any, ...]]:
    if isinstance(section, dict):
        for name, value in section.items():
            yield from leaves(value, *path, name)
    else:
        yield path


LEAVES = sorted(leaves(values()))


def test_sections_are_the_files_values() -> None:
    params = check_params(values(), source="x")
    for name, section in values().items():
        if isinstance(section, dict):
            assert params.section(name) == section
    assert params.seed == values()["seed"]
    assert params.section("loss")["global"]["weight"] == 1.5


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: ".".join(path))
def test_no_key_has_a_default(path: tuple[str, ...]) -> None:
    """A default in code would be a parameter that DVC cannot see."""
    given = values()
    section = given
    for name in path[:-1]:
        section = section[name]
    del section[path[-1]]
    message = refusal(given)
    assert f"{'.'.join(path)}: this key is missing" in message


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: ".".join(path))
def test_no_value_changes_its_type(path: tuple[str, ...]) -> None:
    """Text for a number, a number for text, a number for a switch."""
    given = values()
    section = given
    for name in path[:-1]:
        section = section[name]
    value = section[path[-1]]
    section[path[-1]] = 7 if isinstance(value, (str, bool)) else str(value)
    message = refusal(given)
    assert ".".join(path) in message
    assert repr(section[path[-1]]) in message


def test_values_cannot_be_changed_later() -> None:
    params = check_params(values(), source="x")
    with pytest.raises(ValueError, match="frozen"):
        params.train.epochs = 3  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train__epoch": 3}, "train.epoch: unknown key, did you mean 'epochs'?"),
        ({"lose": {}}, "lose: unknown key, did you mean 'loss'?"),
        ({"loss__inter__margn": 1.0}, "loss.inter.margn: unknown key, did you mean 'margin'?"),
        ({"loss__globl": {}}, "loss.globl: unknown key, did you mean 'global'?"),
        ({"loss__global_": {}}, "loss.global_: unknown key, did you mean 'global'?"),
        ({"loss__global__featur": 1}, "loss.global.featur: unknown key, did you mean 'feature'?"),
        ({"model__zzzz": 1}, "model.zzzz: unknown key (known here: backbone, width,"),
        ({"seed__": 1}, "seed: "),
        (
            {"augment__erasing__probabilty": 1},
            "augment.erasing.probabilty: unknown key, did you mean 'probability'?",
        ),
    ],
)
def test_unknown_keys(change: dict[str, Any], message: str) -> None:
    given = values()
    if "seed__" in change:
        given["seed"] = {"value": 1}
    else:
        given = changed(**change)
    assert message in refusal(given)


def test_unknown_key_in_a_list() -> None:
    given = values()
    given["train"]["optimizer"]["schedule"][1]["rates"] = 0.1
    assert "train.optimizer.schedule.1.rates: unknown key" in refusal(given)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"seed": -1}, ["seed", "-1"]),
        ({"seed": 2**32}, ["seed", str(2**32)]),
        ({"seed": True}, ["seed", "True"]),
        ({"train__epochs": 0}, ["train.epochs", "greater than or equal to 1", "0"]),
        ({"train__epochs": 2.0}, ["train.epochs", "integer", "2.0"]),
        ({"augment__flip": 1.01}, ["augment.flip", "less than or equal to 1", "1.01"]),
        ({"augment__flip": -0.01}, ["augment.flip", "-0.01"]),
        ({"train__norm_limit": 0.0}, ["train.norm_limit", "greater than 0"]),
        ({"train__norm_limit": float("inf")}, ["train.norm_limit", "finite"]),
        ({"loss__sub__weight": float("nan")}, ["loss.sub.weight", "nan"]),
        ({"loss__sub__weight": -1.0}, ["loss.sub.weight", "-1.0"]),
        (
            {"model__backbone": "resnet101"},
            ["model.backbone", "'slim', 'resnet18' or 'resnet50'", "resnet101"],
        ),
        ({"model__last_stride": 3}, ["model.last_stride", "1 or 2", "3"]),
        ({"train__optimizer__momentum": 1.0}, ["train.optimizer.momentum", "less than 1"]),
        ({"train__batch__identities": 1}, ["train.batch.identities", "2", "1"]),
        ({"augment__erasing__area": [0.1]}, ["augment.erasing.area", "2 items"]),
        ({"augment__erasing__area": [0.1, 1.2]}, ["augment.erasing.area.1", "1.2"]),
        ({"evaluate__shots": [5]}, ["evaluate.shots.0", "5"]),
        ({"evaluate__shots": []}, ["evaluate.shots", "1 item"]),
        ({"evaluate__trials": 11}, ["evaluate.trials", "10", "11"]),
        ({"model": None}, ["model", "None"]),
        ({"tracking__experiment": ""}, ["tracking.experiment", "''"]),
    ],
)
def test_values_out_of_range(change: dict[str, Any], parts: list[str]) -> None:
    message = refusal(changed(**change))
    for part in parts:
        assert part in message
    assert len(message.splitlines()) == 2


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"augment__erasing__area": [0.4, 0.02]}, ["augment.erasing", "area must be [smallest, largest]"]),
        ({"augment__erasing__ratio": [3.3, 0.3]}, ["augment.erasing", "ratio must be [smallest, largest]"]),
        ({"model__weights": "imagenet"}, ["model", "weights must be 'none' for backbone 'slim'", "imagenet"]),
        (
            {"train__batch__sampling": "two_per_camera", "train__batch__images": 3},
            ["train.batch", "even", "3"],
        ),
        (
            {"train__optimizer__schedule": [{"from_epoch": 2, "rate": 0.1}]},
            ["train.optimizer", "start with from_epoch 1", "[2]"],
        ),
        (
            {"train__optimizer__schedule": [{"from_epoch": e, "rate": 0.1} for e in (1, 5, 5)]},
            ["train.optimizer", "[1, 5, 5]"],
        ),
        (
            {"train__optimizer__schedule": [{"from_epoch": e, "rate": 0.1} for e in (1, 9, 5)]},
            ["train.optimizer", "[1, 9, 5]"],
        ),
        ({"train__optimizer__momentum": 0.0}, ["train.optimizer", "nesterov"]),
        ({"synergy__teacher": "mutual"}, ["synergy.teacher 'mutual'", "loss.synergy_identity"]),
        (
            {"synergy__teacher": "logits_mean"},
            ["synergy.teacher 'logits_mean'", "'mogrifier' or 'parts_mean'"],
        ),
        (
            {"synergy__teacher": "parts_mean", "synergy__residual": "none"},
            ["synergy.residual must be 'mean'"],
        ),
    ],
)
def test_values_that_do_not_go_together(change: dict[str, Any], parts: list[str]) -> None:
    message = refusal(changed(**change))
    for part in parts:
        assert part in message


def test_a_loss_without_terms() -> None:
    given = values()
    for term in given["loss"].values():
        if isinstance(term, dict) and "on" in term:
            term["on"] = False
    assert "at least one term must be on" in refusal(given)
    given["loss"]["identity"] |= {"on": True, "weight": 0.0}
    assert "at least one term must be on" in refusal(given)


@pytest.mark.parametrize("teacher", ["mutual", "logits_mean"])
def test_teachers_without_a_branch_are_fine_where_nothing_needs_one(teacher: str) -> None:
    given = changed(synergy__teacher=teacher)
    for name in ("synergy_identity", "local", "global"):
        given["loss"][name]["on"] = False
    assert check_params(given, source="x").synergy.teacher == teacher
    given["loss"]["cascade"]["synergistic"] = True
    assert "loss.cascade.synergistic" in refusal(given)


def test_every_mistake_is_named_at_once() -> None:
    given = changed(
        train__epochs=0, model__backbone="vgg", augment__flip="often", loss__sub__wieght=1.0, seed=-5
    )
    del given["embed"]["batch"]
    message = refusal(given)
    for key in ("train.epochs", "model.backbone", "augment.flip", "loss.sub.wieght", "seed", "embed.batch"):
        assert f"  {key}: " in message
    assert len(message.splitlines()) == 7
    assert message.startswith("params.yaml is not valid:")


def test_exponents_are_numbers(tmp_path: Path) -> None:
    text = SYNTHETIC.read_text(encoding="utf-8")
    assert "weight_decay: 5.0e-4" in text
    for written in ("1e-3", "1.0e-3", "1E-3", "0.001"):
        path = tmp_path / "params.yaml"
        path.write_text(text.replace("weight_decay: 5.0e-4", f"weight_decay: {written}"), encoding="utf-8")
        assert load_params(path).train.optimizer.weight_decay == 0.001


def test_whole_numbers_are_fractions_too() -> None:
    assert check_params(changed(augment__flip=1), source="x").augment.flip == 1


@pytest.mark.parametrize("word", ["yes", "on", "off", "no"])
def test_words_of_old_yaml_are_words(tmp_path: Path, word: str) -> None:
    """YAML 1.1 would read the key `on` of each loss as true."""
    (tmp_path / "a.yaml").write_text(f"{word}: {word}\n", encoding="utf-8")
    assert read_yaml(tmp_path / "a.yaml") == {word: word}


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: ".".join(path))
def test_absurd_numbers_are_told(path: tuple[str, ...]) -> None:
    """A slip of the finger must not fill the memory; numbers without an upper bound must at least be finite."""
    given = values()
    section = given
    for name in path[:-1]:
        section = section[name]
    value = section[path[-1]]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        section[path[-1]] = 10**30
    else:
        section[path[-1]] = 10**30 if isinstance(value, int) else 10**400
    message = refusal(given)
    assert ".".join(path) in message
    assert len(message) < 500


@pytest.mark.parametrize(
    ("dataset", "source", "fitting"),
    [
        ("sysu-mm01", "msclnet/synthetic", "data/source/sysu-mm01"),
        ("llcm", "/archives/LLCM.zip", "data/source/llcm"),
        ("regdb", "data/source/llcm", "data/source/regdb"),
        ("synthetic", "data/source/synthetic", "msclnet/synthetic"),
    ],
)
def test_the_source_fits_the_data_set(dataset: str, source: str, fitting: str) -> None:
    message = refusal(changed(download__dataset=dataset, download__source=source))
    for part in ("download", fitting, source, "data/source/README.md"):
        assert part in message
    assert check_params(changed(download__dataset=dataset, download__source=fitting), source="x")


@pytest.mark.parametrize("place", ["/home/me/rand_perm_cam.mat", "data/permutations/../p.mat", "p.mat"])
def test_permutations_lie_where_dvc_sees_them(place: str) -> None:
    message = refusal(changed(evaluate__permutations=place))
    assert place in message
    assert "data/permutations/" in message


def test_a_section_in_the_place_of_a_value_is_not_quoted_whole() -> None:
    given = values()
    given["seed"] = {"everything": values(), "again": [values()] * 50}
    message = refusal(given)
    assert "seed: " in message
    assert len(message) < 1000


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"params\.yaml: no such file"):
        load_params(tmp_path / "params.yaml")


def test_remedies_name_programs_that_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_params(tmp_path / "params.yaml")
    for word in str(caught.value).replace("`", " ").split():
        if word.startswith("pipelines."):
            assert (ROOT / f"{word.replace('.', '/')}.py").exists(), word


@pytest.mark.parametrize(
    "content",
    [
        b"a: [1, 2\n",
        b"a: b: c\n",
        b"\ta: 1\n",
        b"a: 1\na: 2\n",
        b"\xff\xfe\x00",
        b"a: !!python/object:os.system {}\n",
    ],
    ids=["bracket", "colons", "tab", "twice", "bytes", "object"],
)
def test_no_yaml(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "params.yaml").write_bytes(content)
    with pytest.raises(UserError, match=r"params\.yaml is no valid YAML"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("content", ["", "# nothing\n", "- 1\n- 2\n", "just text\n", "3\n"])
def test_yaml_without_sections(tmp_path: Path, content: str) -> None:
    (tmp_path / "params.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"params\.yaml holds no sections"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("key", [1, None, 2.5, True])
def test_keys_that_are_no_words(key: Any) -> None:
    given = values()
    given["train"][key] = 1
    assert "train" in refusal(given)


def test_official_galleries_need_the_place_of_their_file() -> None:
    """Told before the training and not after it."""
    assert "evaluate.permutations" in refusal(changed(evaluate__samplers=["agw", "official"]))
    given = changed(evaluate__samplers=["official"], evaluate__permutations="data/permutations/p.mat")
    assert check_params(given, source="x").evaluate.permutations == "data/permutations/p.mat"


@pytest.mark.parametrize(("height", "width"), [(32, 16), (48, 24), (50, 50)])
def test_images_too_small_for_the_network(height: int, width: int) -> None:
    """Instance normalisation needs more than one place in the maps: slim leaves one for each 48 pixels."""
    assert "preprocess" in refusal(changed(preprocess__height=height, preprocess__width=width))


@pytest.mark.parametrize(("height", "width"), [(51, 24), (64, 32), (96, 48)])
def test_accepted_image_sizes_can_be_trained_on(height: int, width: int) -> None:
    import torch

    from msclnet.models.build import build_network

    params = check_params(changed(preprocess__height=height, preprocess__width=width), source="x")
    model = params.section("model") | {"width": 8}
    images = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    network = build_network({"identities": 2, "model": model, "synergy": params.section("synergy")})
    assert network(images, images).maps.shape[2:].numel() > 1


def test_every_model_of_the_schema_is_strict() -> None:
    waiting: list[Any] = [Params]
    seen = 0
    while waiting:
        model = waiting.pop()
        seen += 1
        assert model.model_config.get("extra") == "forbid"
        assert model.model_config.get("strict")
        for field in model.model_fields.values():
            assert field.is_required(), (model, field)
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                waiting.append(field.annotation)
    assert seen > 20
