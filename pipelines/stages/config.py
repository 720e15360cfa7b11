"""Reads params.yaml and names every mistake in it: the key, the value and the remedy."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from reprlib import Repr
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from msclnet.errors import UserError
from msclnet.tracking.masking import mask
from pipelines.stages.params import Params as Params

REWRITE = "write it with `msclnet preset synthetic`"
SHORT = Repr()  # a value may be a whole section put in the wrong place
SHORT.maxlevel, SHORT.maxdict, SHORT.maxlist, SHORT.maxlong = 3, 10, 10, 60
SHORT.maxstring = SHORT.maxother = 200
_MOST_LISTED = 40  # names in a message


def load_params(path: Path) -> Params:
    """Read and validate a params file; a UserError names every mistake in it."""
    return check_params(read_yaml(path), source=str(path))


def read_yaml(path: Path) -> Any:
    """The plain values of a YAML 1.2 file (1e-3 is a number, `on` a string)."""
    try:
        return load_yaml(path.read_bytes(), source=str(path))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; {REWRITE}") from error


def load_yaml(text: str | bytes, *, source: str) -> Any:
    """The plain values of a YAML 1.2 text; `source` is how messages name it. A key that comes twice is a mistake."""
    from ruamel.yaml import YAML

    try:
        return YAML(typ="safe", pure=True).load(text.decode("utf-8") if isinstance(text, bytes) else text)
    # A malformed date, number or merge key raises whatever its constructor meets first.
    except Exception as error:
        raise UserError(f"{source} is no valid YAML: {error}") from error


def check_params(values: Any, *, source: str) -> Params:
    """Validate values that came from `source`; a UserError names each wrong key and value."""
    if not isinstance(values, dict):
        raise UserError(f"{source} holds no sections; {REWRITE}")
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        mistakes = "\n".join(
            f"  {describe(problem, Params, place=problem['loc'])}" for problem in error.errors()
        )
        raise UserError(mask(f"{source} is not valid:\n{mistakes}")) from error


def describe(
    problem: Any, schema: type[BaseModel], *, place: Sequence[Any], example: str = "presets/synthetic.yaml"
) -> str:
    """The message for one of pydantic's errors; `place`: the key's path, `example`: a file that has all keys."""
    where = ".".join(str(part) for part in place) or "the whole file"
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown key{suggestion(str(place[-1]), _known_keys(schema, place[:-1]))}"
    if problem["type"] == "missing":
        return f"{where}: this key is missing; {example} has an example"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" + (
        "" if problem["type"] == "value_error" else f", not {_shown(problem['input'])}"
    )


def suggestion(word: str, known: Iterable[str]) -> str:
    """` (did you mean ...?)` where a known word is close or ends alike; else the known ones, where they are few."""
    known = list(known)
    last = word.rpartition(".")[2]
    close = get_close_matches(word, known, n=1, cutoff=0.5)
    close += [name for name in known if name.rpartition(".")[2] == last]
    if close:
        return f" (did you mean {close[0]!r}?)"
    return f"; there are: {', '.join(known) or 'none'}" if len(known) <= _MOST_LISTED else ""


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"train": {"epochs": 3}} -> {"train.epochs": 3}; lists and empty sections are values."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _shown(value: Any) -> str:
    text = SHORT.repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _known_keys(schema: type[BaseModel], path: Sequence[Any]) -> list[str]:
    models = [schema]
    for part in path:  # positions in lists lead to no other model
        fields = [
            item
            for model in models
            for item in model.model_fields.items()
            if part in (item[0], item[1].alias)
        ]
        models = [model for _, field in fields for model in _models(field.annotation)] or models
    return [field.alias or name for model in models for name, field in model.model_fields.items()]


def _models(annotation: Any) -> list[type[BaseModel]]:
    if parts := get_args(annotation):
        return [model for part in parts for model in _models(part)]
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []
