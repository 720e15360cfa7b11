"""Changes of single values of params.yaml for one run."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from msclnet.errors import UserError
from msclnet.tracking.masking import may_hold_a_secret
from pipelines.stages.config import flatten, load_yaml, suggestion
from pipelines.stages.presets import commented_yaml, load_with_comments


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """Read `key=value` arguments; values are YAML 1.2, so `1e-3` is a number and `[1, 2]` a list.

    Raises:
        UserError: an argument without a key, or a value that is no YAML or an address with a password or token.
    """
    overrides = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {setting}: write it as KEY=VALUE, for example --set train.epochs=3")
        _check_no_secret(key, text)  # before the value reaches Prefect
        overrides[key.strip()] = load_yaml(text, source=f"--set {setting}") if text else ""
    return overrides


def apply_overrides(params: Path, overrides: Mapping[str, Any]) -> None:
    """Set single values in a params file; comments and order stay, and so does the file if nothing differs.

    Args:
        params: the file.
        overrides: values by dotted key (`train.epochs`); nested mappings mean the same.

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


def _check_no_secret(key: str, value: Any) -> None:
    if isinstance(value, str) and may_hold_a_secret(value.strip("'\" ")):
        raise UserError(
            f"{key}: this address may hold a password or a token, and overrides are kept in experiments and in "
            "Prefect's database; leave the credentials out of it (~/.netrc can hold them)"
        )
