"""Writes params.yaml from a preset and says what changed: `python -m pipelines.preset NAME`."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msclnet.errors import UserError
from pipelines.config import load_params, read_yaml
from pipelines.places import PARAMS
from pipelines.stage import report_user_errors

PRESETS = Path("presets")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.preset", description=__doc__)
    parser.add_argument("name", help="a file of presets/ without its ending")
    arguments = parser.parse_args()
    report_user_errors(lambda: write_preset(arguments.name))


def write_preset(name: str) -> None:
    """Copy presets/<name>.yaml to params.yaml, and print each key whose value changed with both values.

    Raises:
        UserError: There is no such preset, or it is not valid.
    """
    source = preset_path(name)
    load_params(source)
    old = flat(read_yaml(PARAMS)) if PARAMS.is_file() else {}
    new = flat(read_yaml(source))
    PARAMS.write_bytes(source.read_bytes())
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    print(f"{PARAMS} is now {source}; {len(changed)} values changed")
    for key in changed:
        print(f"  {key}: {old.get(key)} -> {new.get(key)}")


def preset_path(name: str, *, folder: Path = PRESETS) -> Path:
    """File of a preset.

    Raises:
        UserError: There is no such preset; the known ones are named.
    """
    path = folder / f"{name}.yaml"
    known = sorted(file.stem for file in folder.glob("*.yaml"))
    if name not in known:
        raise UserError(f"preset {name!r}: there is no {path}; known presets: {', '.join(known)}")
    return path


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested sections as one level: {"train": {"epochs": 3}} -> {"train.epochs": 3}."""
    return dict(_walk(values, prefix))


def _walk(values: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _walk(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, values


if __name__ == "__main__":
    main()
