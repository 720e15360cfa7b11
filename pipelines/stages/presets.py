"""Presets: complete parameter files, or overlays that name the preset they extend and the values that differ."""

import re
from collections.abc import Callable, MutableMapping
from copy import deepcopy
from functools import lru_cache, reduce
from io import StringIO
from pathlib import Path
from typing import Any

from msclnet.errors import UserError
from pipelines.stages.config import Params, check_params, flatten, load_yaml, read_yaml, suggestion
from pipelines.stages.paths import PARAMS

EXTENDS = "extends"
Overlays = tuple[tuple[str, str], ...]  # path and text of each file, the complete preset last


def preset_names(project: Path) -> list[str]:
    """Names of the files in presets/, in alphabetical order."""
    return sorted(path.stem for path in (project / "presets").glob("*.yaml"))


def load_preset(name: str, project: Path) -> dict[str, Any]:
    """All values of a preset, sections as nested mappings; they are not validated."""
    return deepcopy(_values(_overlays(project, name)))


def preset_params(name: str, project: Path) -> Params:
    """A preset, validated."""
    return check_params(load_preset(name, project), source=f"presets/{name}.yaml")


def apply_preset(project: Path, name: str, *, target: Path | None = None) -> None:
    """Write all values of a preset with their comments, an overlay's own first, to `target` (default: params.yaml)."""
    (target or project / PARAMS).write_text(_text(_overlays(project, name)), encoding="utf-8")


def write_preset(name: str) -> None:
    """Write params.yaml from a valid preset; print each value that changes, and where to get a missing data set."""
    from msclnet.datasets.catalogue import missing_source_message

    project = Path()
    values = preset_params(name, project).model_dump(by_alias=True)
    old = _present(project / PARAMS)
    apply_preset(project, name)
    new = flatten(values)
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    print(f"{PARAMS} now holds presets/{name}.yaml; {len(changed)} values changed")
    for key in changed:
        print(f"  {key}: {_shown(old, key)} -> {_shown(new, key)}")
    download = values["download"]
    if missing := missing_source_message(download["dataset"], project / download["source"]):
        print(missing)


def commented_yaml() -> Any:
    """A loader and writer that keeps comments, order and quotes, in the style of params.yaml."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def load_with_comments(text: str, *, source: str) -> Any:
    """A YAML document for `commented_yaml().dump`; `source` is how messages name it."""
    try:
        return commented_yaml().load(text)
    except Exception as error:  # as for `load_yaml`
        raise UserError(f"{source} is no valid YAML: {error}") from error


def _overlays(project: Path, name: str) -> Overlays:
    found: dict[str, tuple[str, str]] = {}
    names = preset_names(project)
    following: str | None = name
    while following is not None:
        if following not in names:
            raise UserError(f"no preset {following!r} in presets/{suggestion(following, names)}")
        path = project / "presets" / f"{following}.yaml"
        if following in found:
            raise UserError(f"{path}: {following!r} extends itself; {EXTENDS} must lead to a complete preset")
        text = path.read_text(encoding="utf-8")
        found[following] = (str(path), text)
        extended = re.search(rf"^{EXTENDS}: *(\S+)", text, re.MULTILINE)
        following = extended[1] if extended else None
    return tuple(found.values())


@lru_cache(maxsize=32)
def _values(overlays: Overlays) -> dict[str, Any]:
    return _merged(overlays, load_yaml)


@lru_cache(maxsize=32)
def _text(overlays: Overlays) -> str:
    text = overlays[0][1]
    if len(overlays) == 1:
        return text
    output = StringIO()
    commented_yaml().dump(_merged(overlays, load_with_comments), output)
    return _head(text) + output.getvalue().removeprefix(_head(output.getvalue()))


def _merged(overlays: Overlays, load: Callable[..., Any]) -> Any:
    documents = []
    for path, text in reversed(overlays):
        document = load(text, source=path)
        if not isinstance(document, MutableMapping):
            raise UserError(f"{path} has no sections; presets/synthetic.yaml is an example")
        document.pop(EXTENDS, None)
        documents.append(document)
    return reduce(_merge, documents)


def _merge(base: Any, overlay: Any) -> Any:
    for key, value in overlay.items():
        if isinstance(value, MutableMapping) and isinstance(base.get(key), MutableMapping):
            _merge(base[key], value)
        else:
            base[key] = value
        if hasattr(overlay, "ca"):
            _merge_comment(base, overlay, key)
    return base


def _merge_comment(base: Any, overlay: Any, key: str) -> None:
    former, own = (mapping.ca.items.get(key, [None] * 4)[2] for mapping in (base, overlay))
    text = own.value.partition("\n")[0] if own else ""
    if text:
        below = former.value.partition("\n")[2] if former else ""  # the blank line before the next section
        base.yaml_add_eol_comment(text, key, column=0)
        base.ca.items[key][2].value = f"{text}\n{below}"
    elif former:
        former.column = 0  # next to the new value, however long the former one was


def _head(text: str) -> str:
    """The comment lines at the start of a file."""
    lines = text.splitlines(keepends=True)
    count = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "".join(lines[:count])


def _shown(values: dict[str, Any], key: str) -> str:
    if key not in values:
        return "(no such key)"
    return str(values[key]) if values[key] != "" else "(empty)"


def _present(params: Path) -> dict[str, Any]:
    try:
        values = read_yaml(params)
    except UserError:  # missing or damaged: this command is the remedy
        return {}
    return flatten(values) if isinstance(values, dict) else {}
