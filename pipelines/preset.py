"""Writes params.yaml from a preset and says what changed: `python -m pipelines.preset NAME`."""

import argparse
from pathlib import Path
from typing import Any

from msclnet.errors import UserError
from pipelines.orchestration.overrides import apply_preset, flatten, preset_path
from pipelines.stages.config import load_params, read_yaml
from pipelines.stages.paths import PARAMS
from pipelines.stages.stage import report_user_errors


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
    old = _present()
    source = preset_path(Path(), name)
    load_params(source)
    apply_preset(Path(), name)
    new = flatten(read_yaml(source))
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    print(f"{PARAMS} is now {source}; {len(changed)} values changed")
    for key in changed:
        print(f"  {key}: {_shown(old, key)} -> {_shown(new, key)}")


def _shown(values: dict[str, Any], key: str) -> str:
    if key not in values:
        return "(no such key)"
    return str(values[key]) if values[key] != "" else "(empty)"


def _present() -> dict[str, Any]:
    try:
        values = read_yaml(PARAMS)
    except UserError:  # missing, or broken: this command is the remedy
        return {}
    return flatten(values) if isinstance(values, dict) else {}


if __name__ == "__main__":
    main()
