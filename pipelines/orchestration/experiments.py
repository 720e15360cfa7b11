"""What an isolated run is made of: a preset, overrides and a name, checked before anything runs."""

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msclnet.errors import UserError
from pipelines.orchestration import workspace
from pipelines.orchestration.overrides import apply_overrides
from pipelines.stages.config import flatten, load_params, load_yaml
from pipelines.stages.presets import apply_preset

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


def write_params(project: Path, experiment: Experiment, target: Path) -> None:
    """Write an experiment's parameters to a file and validate them.

    Raises:
        UserError: no such preset, an unknown key, or a wrong value; the message names the overrides, and no file that
            the user does not know.
    """
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
