"""Reads params.yaml and tells every mistake in it: the key, the value and the remedy."""

from pathlib import Path
from reprlib import Repr
from typing import Any

from pydantic import BaseModel, ValidationError

from msclnet.errors import UserError
from msclnet.tracking.masking import mask
from pipelines.safe_yaml import MOST_BYTES, load_yaml
from pipelines.schema import Params as Params

SHORT = Repr()  # a value may be a whole section put in the wrong place
SHORT.maxlevel, SHORT.maxdict, SHORT.maxlist, SHORT.maxlong = 3, 10, 10, 60
SHORT.maxstring = SHORT.maxother = LONGEST_VALUE = 200


def load_params(path: Path) -> Params:
    """Read and validate a params file.

    Raises:
        UserError: The file is missing, is no YAML, or a key or value is wrong; every mistake is named.
    """
    return check_params(read_yaml(path), source=str(path))


def read_yaml(path: Path) -> Any:
    """The values of a YAML 1.2 file (1e-3 is a number); see `load_yaml`.

    Raises:
        UserError: The file is missing or is no YAML.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: no such file; write it with `python -m pipelines.preset synthetic`"
        ) from error
    return load_yaml(text, source=str(path))


def check_params(values: Any, *, source: str) -> Params:
    """Validate values that came from `source`.

    Raises:
        UserError: A key or value is wrong; every mistake is named with its key and value.
    """
    if not isinstance(values, dict):
        raise UserError(
            f"{source} holds no sections; write it again with `python -m pipelines.preset synthetic`"
        )
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        mistakes = "\n".join(f"  {_mistake(problem, values)}" for problem in error.errors())
        raise UserError(mask(f"{source} is not valid:\n{mistakes}")) from error


def _mistake(problem: Any, values: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in problem["loc"]) or "the whole file"
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown key{_nearest(problem['loc'], values)}; remove or rename it"
    if problem["type"] == "missing":
        return f"{where}: this key is missing; presets/synthetic.yaml has an example"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{where}: {message}"
    return f"{where}: {message}, not {_shown(problem['input'])}"


def _shown(value: Any) -> str:
    text = SHORT.repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def _nearest(location: tuple[Any, ...], values: dict[str, Any]) -> str:
    from difflib import get_close_matches

    schema: Any = Params
    for part in location[:-1]:
        if isinstance(part, int):
            return ""
        field = next((f for n, f in schema.model_fields.items() if part in (n, f.alias)), None)
        schema = getattr(field, "annotation", None)
        if not (isinstance(schema, type) and issubclass(schema, BaseModel)):
            return ""
    known = [field.alias or name for name, field in schema.model_fields.items()]
    close = get_close_matches(str(location[-1]), known, n=1)
    return f", did you mean {close[0]!r}?" if close else f" (known here: {', '.join(known)})"
