"""Reads params.yaml and tells every mistake in it: the key, the value and the remedy.

Reads YAML that anybody may have written: plain values, of limited size and depth, and no other outcome than these.

ruamel's safe loader makes plain values only and refuses duplicate keys. Added here are bounds on what a small text can
do: aliases of aliases that multiply (a thousand characters may stand for a thousand million values), brackets within
brackets, for which the pure Python loader takes time that grows with the square of their number, and values whose
construction fails in ways of their own (numbers of thousands of digits, a thirteenth month).
"""

from pathlib import Path
from reprlib import Repr
from typing import Any

from pydantic import BaseModel, ValidationError

from msclnet.errors import UserError
from msclnet.tracking.masking import mask
from pipelines.stages.params import Params as Params

MOST_BYTES = 2**18  # a complete params.yaml has 8 thousand
MOST_VALUES = 100_000  # with every alias in its place
MOST_DEPTH = 50
MOST_BITS = 1024  # of a whole number; the largest fraction is smaller


def load_yaml(text: str | bytes, *, source: str) -> Any:
    """The values of a YAML 1.2 text (1e-3 is a number).

    Args:
        text: the text, UTF-8 where it is bytes.
        source: how messages name it.

    Raises:
        UserError: it is no YAML, or goes beyond the bounds above.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        if len(text) > MOST_BYTES:
            raise ValueError(f"it is longer than the {MOST_BYTES} characters that are read")
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        _check_brackets(text)
        values = YAML(typ="safe", pure=True).load(text)
        _count(values, {})
    except RecursionError:
        raise UserError(f"{source} is no valid YAML: it is nested too deeply; write it flatter") from None
    # ValueError: dates, numbers and encodings that are none. The others: what constructors stumble over.
    except (YAMLError, ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise UserError(f"{source} is no valid YAML: {error}") from error
    return values


def _check_brackets(text: str) -> None:
    depth = 0
    for character in text:
        # Brackets in words and comments count as well; they mostly come in pairs.
        if character in "[{":
            depth += 1
            if depth > MOST_DEPTH:
                raise ValueError(f"more than {MOST_DEPTH} brackets are open at once")
        elif character in "]}" and depth:
            depth -= 1


def _count(value: Any, counted: dict[int, int], depth: int = 0) -> int:
    """How many values there are with every alias in its place; each is looked at once, however often it is named."""
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise ValueError("a number has too many digits")
    if isinstance(value, str):
        value.encode()  # "\ud800" is half a character, which no file can hold
        return 1
    if not isinstance(value, (dict, list, tuple, set)):
        return 1
    if depth > MOST_DEPTH:
        raise RecursionError
    if id(value) in counted:
        if not counted[id(value)]:
            raise ValueError("an alias stands inside of what it names")
        return counted[id(value)]
    counted[id(value)] = 0  # not finished yet
    parts = [*value, *value.values()] if isinstance(value, dict) else value
    total = 1 + sum(_count(part, counted, depth + 1) for part in parts)
    if total > MOST_VALUES:
        raise ValueError(f"its aliases multiply to more than {MOST_VALUES} values")
    counted[id(value)] = total
    return total


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
        raise UserError(f"{path}: no such file; write it with `msclnet preset synthetic`") from error
    return load_yaml(text, source=str(path))


def check_params(values: Any, *, source: str) -> Params:
    """Validate values that came from `source`.

    Raises:
        UserError: A key or value is wrong; every mistake is named with its key and value.
    """
    if not isinstance(values, dict):
        raise UserError(f"{source} holds no sections; write it again with `msclnet preset synthetic`")
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
