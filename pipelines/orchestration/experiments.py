"""What an isolated run is made of: a preset, single values and a name, checked before anything runs."""

import json
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msclnet.errors import UserError
from msclnet.tracking.masking import may_hold_a_secret
from pipelines.orchestration import workspace
from pipelines.stages.config import flatten, load_params, load_yaml, suggestion
from pipelines.stages.presets import apply_preset, commented_yaml, load_with_comments

_SHOWN = 4


@dataclass(frozen=True)
class Experiment:
    """What to run, as opposed to how.

    Attributes:
        overrides: values of params.yaml by dotted key.
        preset: name of the file in presets/ that takes the place of params.yaml, or None.
        until: last stage, or None for all.
        name: the experiment's name, or None for one made of the preset, the overrides and a digest of the inputs.
        title: what it is called in logs.
    """

    overrides: Mapping[str, Any] = field(default_factory=dict)
    preset: str | None = None
    until: str | None = None
    name: str | None = None
    title: str = ""


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """Read `key=value` arguments; values are YAML 1.2, so `1e-3` is a number and `[1, 2]` a list."""
    overrides = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {setting}: write it as KEY=VALUE, for example --set train.epochs=3")
        _check_no_secret(key, text)  # before the value reaches Prefect
        overrides[key.strip()] = load_yaml(text, source=f"--set {setting}") if text else ""
    return overrides


def apply_overrides(params: Path, overrides: Mapping[str, Any]) -> None:
    """Set single values in a params file, by dotted key or nested; comments, order and an equal file stay.

    Raises:
        UserError: a key that the file does not have, or one that names a whole section; or a value that is an address
            with a password or token. The file is as it was then.
    """
    try:
        document = load_with_comments(params.read_text(encoding="utf-8"), source=params.name)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{params.name} cannot be read: {error}") from None
    if not isinstance(document, Mapping):
        raise UserError(f"{params.name} has no keys that could be overridden: start from a file in presets/")
    known = flatten(document)
    changed = False
    for key, value in flatten(overrides).items():
        _check_no_secret(key, value)
        if key not in known:
            inside = [name for name in known if name.startswith(f"{key}.")]
            if inside:
                raise UserError(
                    f"{key} is a section of {params.name}, not a value; set one of its keys: {', '.join(inside)}"
                )
            raise UserError(f"{key}: {params.name} has no such key{suggestion(key, known)}")
        # As JSON, for ruamel's numbers are subclasses of Python's; True, 1 and 1.0 stay three different values.
        if json.dumps(known[key], default=str) != json.dumps(value, default=str):
            *sections, last = key.split(".")
            section: Any = document
            for name in sections:
                section = section[name]
            section[last] = value
            changed = True
    if changed:
        with params.open("w", encoding="utf-8") as file:
            commented_yaml().dump(document, file)


def write_params(project: Path, experiment: Experiment, target: Path) -> None:
    """Write an experiment's parameters to a file and validate them; messages name the file that the user knows."""
    if experiment.preset:
        apply_preset(project, experiment.preset, target=target)
    elif target != project / "params.yaml":
        target.write_bytes((project / "params.yaml").read_bytes())
    overrides = flatten(experiment.overrides)
    apply_overrides(target, overrides)
    try:
        load_params(target)
    except UserError as error:
        source = f"presets/{experiment.preset}.yaml" if experiment.preset else "params.yaml"
        given = ", ".join(f"{key}={value}" for key, value in overrides.items())
        message = str(error).replace(str(target), f"{source} with {given}" if given else source)
        raise UserError(message) from error


def check_experiments(root: Path, experiments: Sequence[Experiment]) -> list[dict[str, Any]]:
    """Find every mistake before the first experiment runs, and protect results of other settings under their names.

    Returns:
        Each experiment's parameters by dotted key.

    Raises:
        UserError: a wrong name, preset, key or value; or an experiment of the name was made with other parameters.
    """
    base = workspace.base_commit(root)
    parameters, taken = [], {}
    for experiment in experiments:
        name = experiment.name or ""
        workspace.check_name(root, name)
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "params.yaml"
            write_params(root, experiment, target)
            values = flatten(load_yaml(target.read_bytes(), source=f"params.yaml of {name}"))
        parameters.append(values)
        if commit := workspace.experiment_commit(root, base, name):
            text = workspace.git(root, "cat-file", "blob", f"{commit}:params.yaml")
            former = flatten(load_yaml(text, source=f"params.yaml of {name}"))
            if former != values:
                taken[name] = changes(former, values)
    if taken:
        raise UserError(
            f"experiments with other parameters ({next(iter(taken.values()))}) exist as {', '.join(taken)}: choose "
            f"another name, or remove them with `dvc exp remove {' '.join(taken)}`"
        )
    return parameters


def changes(former: Mapping[str, Any], present: Mapping[str, Any]) -> str:
    """The first few values that differ, such as `train.epochs: 3 -> 4; seed: 0 -> 1 ...`."""
    keys = [key for key in {**present, **former} if former.get(key) != present.get(key)]
    shown = "; ".join(f"{key}: {former.get(key)} -> {present.get(key)}" for key in keys[:_SHOWN])
    return shown + " ..." * (len(keys) > _SHOWN)


def readable_name(experiment: Experiment, inputs: str) -> str:
    """A name such as `smoke-epochs-3-1a2b3c4`; the digest of the inputs makes it unique to them."""
    words = [experiment.preset] if experiment.preset else []
    words += [f"{key.rsplit('.', 1)[-1]}-{value}" for key, value in flatten(experiment.overrides).items()]
    text = re.sub(r"[^A-Za-z0-9._]+", "-", "-".join(words)).strip("-._")
    text = re.sub(r"\.{2,}", ".", text)[:60].rstrip("-._")
    return f"{text or 'run'}-{inputs[:7]}"


def _check_no_secret(key: str, value: Any) -> None:
    if isinstance(value, str) and may_hold_a_secret(value.strip("'\" ")):
        raise UserError(
            f"{key}: this address may hold a password or a token, and overrides are kept in experiments and in "
            "Prefect's database; leave the credentials out of it (~/.netrc can hold them)"
        )
