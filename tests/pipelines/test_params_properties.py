"""params.yaml by properties: after any change it is either valid as it stands or refused with the key named."""

import copy
import functools
import io
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from msclnet.errors import UserError
from msclnet.tracking.masking import mask
from pipelines.stages.config import Params, check_params, load_params, load_yaml

MODERATELY = settings(derandomize=True, deadline=None, database=None, max_examples=40)
SYNTHETIC = Path(__file__).resolve().parents[2] / "presets/synthetic.yaml"

Key = str | int
numbers = (
    st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from([0, 1, -1, 2, 0.5, 1e300, -0.0, 10**30, 2**1000])
)
words = st.sampled_from(["", "none", "mutual", "slim", "bf16", "on", "https://me:pw@h/x", "all"]) | st.text(
    max_size=5
)
scalars = numbers | words | st.booleans() | st.none()
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.integers(), inner, max_size=3),
    max_leaves=6,
)


@functools.cache
def text() -> str:
    """The preset without its comments: what matters here is read in a third of the time."""
    stream = io.StringIO()
    YAML(typ="safe", pure=True).dump(sound(), stream)
    return stream.getvalue()


@functools.cache
def _sound() -> dict[str, Any]:
    return load_yaml(SYNTHETIC.read_bytes(), source="x")


def sound() -> dict[str, Any]:
    return copy.deepcopy(_sound())


def attempt(read: Callable[[], Any]) -> tuple[Any, str]:
    """What came out, and the mistake that was told; whatever else is raised fails the test."""
    try:
        return read(), ""
    except UserError as error:
        return None, str(error) or "nothing was told"


def places(value: Any, *path: Key) -> Iterator[tuple[Key, ...]]:
    """All keys and list positions, at any depth."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in parts:
        yield (*path, key)
        yield from places(inner, *path, key)


PLACES = sorted(places(sound()), key=str)


@MODERATELY
@given(
    st.sampled_from(PLACES), st.sampled_from(["replace", "replace", "lose", "rename", "add"]), anything, words
)
def test_a_change_is_valid_as_it_stands_or_told_with_its_key(
    path: tuple[Key, ...], kind: str, value: Any, word: str
) -> None:
    values, before = sound(), sound()
    *above, last = path
    section: Any = values
    for key in above:
        section = section[key]
    if kind == "replace":
        section[last] = value
    elif kind == "lose":
        del section[last]
    elif isinstance(section, dict):
        section[word] = section.pop(last) if kind == "rename" else value
    else:
        section.append(value)
    assume(repr(values) != repr(before))
    params, told = attempt(lambda: check_params(values, source="params.yaml"))
    if told:
        assert told.startswith("params.yaml is not valid:\n  ")
        # The key itself, or the sections that hold it, where the mistake is what the values of a section are together.
        parents = [key for key in above if isinstance(key, str)]
        assert all(key in told for key in parents or [mask(str(last if kind != "add" else word))])
        assert "me:pw@" not in told
        assert len(told) < 20_000
    else:
        for name, given_section in values.items():
            found = params.section(name) if isinstance(given_section, dict) else getattr(params, name)
            assert as_floats(found) == as_floats(given_section)


def as_floats(value: Any) -> Any:
    """The value with its whole numbers as fractions: 10^30 is rounded where a fraction is asked for."""
    if isinstance(value, dict):
        return {key: as_floats(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [as_floats(inner) for inner in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


PIECES = [
    "&a ", "*a", "<<: *a", "[", "]", "{", "}", "? ", "- ", ": ", "#", "|\n", ">-\n", "'", '"', "\t", "\n", "\n  ",
    "---\n", "...\n", "%YAML 1.1\n", "!!python/object/apply:os.system [x]", "!!binary ", "!!timestamp ", "!!set ",
    "0x", "9" * 5000, "1e999", ".nan", "2001-13-45", "\\ud800", "\0", "\x85", "\ufeff", "seed: 0\n", "a: &b [*b]\n",
    "- - - -", "~", "null",
]  # fmt: skip


@settings(MODERATELY, max_examples=25)
@given(st.data())
def test_a_changed_text_is_read_or_told(data: st.DataObject) -> None:
    changed = text()
    for _ in range(data.draw(st.integers(1, 4))):
        first, second = sorted(data.draw(st.integers(0, len(changed))) for _ in range(2))
        kind = data.draw(st.sampled_from(["insert", "insert", "lose", "double", "cut"]))
        if kind == "insert":
            changed = changed[:first] + data.draw(st.sampled_from(PIECES)) + changed[first:]
        elif kind == "lose":
            changed = changed[:first] + changed[min(second, first + 40) :]
        elif kind == "double":
            changed = changed[:second] + changed[first:second][:200] + changed[second:]
        else:
            changed = changed[:first]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        path.write_bytes(changed.encode())
        params, told = attempt(lambda: load_params(path))
        assert told.startswith(str(path)) or isinstance(params, Params)
