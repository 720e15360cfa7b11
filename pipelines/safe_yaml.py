"""Reads YAML that anybody may have written: plain values, of limited size and depth, and no other outcome than these.

ruamel's safe loader makes plain values only and refuses duplicate keys. Added here are bounds on what a small text can
do: aliases of aliases that multiply (a thousand characters may stand for a thousand million values), brackets within
brackets, for which the pure Python loader takes time that grows with the square of their number, and values whose
construction fails in ways of their own (numbers of thousands of digits, a thirteenth month).
"""

from typing import Any

from msclnet.errors import UserError

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
