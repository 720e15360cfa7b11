"""README and docs name files, commands, keys and variables that exist. Nothing is executed: commands are parsed.

A shell block is either parsed whole, or a line `<!-- needs: ... -->` before it gives the reason why it is not.
"""

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
from ruamel.yaml import YAML

from pipelines.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "data/*/README.md")
    for path in ROOT.glob(pattern)
)
LONGEST_README = 190
SHELL = ("", "bash", "sh", "console")  # other languages are named, the tree of README `text`
OTHER_VARIABLES = ("MSCLNET_FLOW_RUN_ID",)  # set by flows, a tag of MLflow runs
NAMED_BY_FILES = r"tests|msclnet|pipelines|presets|experiments|docs|benchmarks|data/source|data/permutations"
IN_MSCLNET = (
    r"models|losses|training|images|datasets|retrieval|figures|tracking"  # as docs/method.md writes paths
)


class Block(NamedTuple):
    """A fenced block: where it begins, its language, its text, and the reason why it cannot be parsed whole."""

    line: int
    language: str
    text: str
    needs: str


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


@cache
def blocks(document: str) -> list[Block]:
    found, lines, number = [], text_of(document).splitlines(), 0
    while number < len(lines):
        if fence := re.match(r"( *)```(\w*)$", lines[number]):
            end = next(n for n in range(number + 1, len(lines)) if lines[n].strip() == "```")
            before = next((line for line in reversed(lines[:number]) if line.strip()), "")
            mark = re.fullmatch(r" *<!-- needs: (.+) -->", before)
            text = "\n".join(line.removeprefix(fence[1]) for line in lines[number + 1 : end])
            found.append(Block(number + 1, fence[2], text, mark[1] if mark else ""))
            number = end
        number += 1
    return found


def prose(document: str) -> str:
    """The document without its fenced blocks."""
    return re.sub(r"(?ms)^ *```.*?^ *```$", "", text_of(document))


def spans(document: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(document))


def commands(text: str) -> list[tuple[str, ...]]:
    """The words of each command of a shell block, without comments, and without `export` and `exec`."""
    found = []
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        words: list[str] = []
        for word in [*shlex.split(line, comments=True), "&&"]:
            if word == "&&":
                found.append(tuple(words))
                words = []
            elif words or word not in ("export", "exec"):
                words.append(word)
    return [words for words in found if words]


@cache
def read(file: str) -> Any:
    return YAML(typ="safe", pure=True).load(text_of(file))


def has_key(key: str) -> bool:
    """Whether params.yaml has a dotted key; a list ends the path."""
    value = read("params.yaml")
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return False
        value = value[part]
    return True


@cache
def definitions(file: Path) -> frozenset[str]:
    """Functions, classes, their methods, constants and imported names of a module."""
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
            names |= {
                f"{node.name}.{e.name}" for e in getattr(node, "body", []) if isinstance(e, ast.FunctionDef)
            }
        elif isinstance(node, (ast.ImportFrom, ast.Import)):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {e.id for target in targets for e in ast.walk(target) if isinstance(e, ast.Name)}
    return frozenset(names)


def is_importable(dotted: str) -> bool:
    """Whether a dotted name is a package, a module, or a name that a module defines."""
    path, parts = ROOT, dotted.split(".")
    for position, part in enumerate(parts):
        if (path / part).is_dir():
            path /= part
            continue
        file = path / f"{part}.py"
        rest = parts[position + 1 :] if file.is_file() else parts[position:]
        file = file if file.is_file() else path / "__init__.py"
        return not rest or ".".join(rest) in definitions(file)
    return True


@cache
def mistakes(words: tuple[str, ...]) -> list[str] | None:
    """What is wrong with a command; None for one that cannot be parsed here."""
    found = []
    while words and (given := re.fullmatch(r"([A-Z_]+)=.*", words[0], re.DOTALL)):
        if given[1].startswith("MSCLNET_") and given[1] not in variables():
            found.append(f"no variable {given[1]}")
        words = words[1:]
    match words:
        case ["msclnet", *rest] | ["python", "-m", "pipelines", *rest]:
            return found + of_msclnet(rest)
        case ["python", "-m", "benchmarks", *rest]:
            return found + of_benchmarks(rest)
        case ["python", "-m", module, *_] if module.startswith(("pipelines", "benchmarks")):
            known = "<" in module or is_importable(module)
            return found + ([] if known else [f"no module {module}"])
        case ["python", "-c", code]:
            compile(code, "docs", "exec")
            files = re.findall(r"'((?:experiments|docs)/[^']+)'", code)
            return found + [f"no file {file}" for file in files if not (ROOT / file).exists()]
        case ["make", *rest]:
            return found + of_make(rest)
        case ["prefect", "deployment", "run", *rest]:
            return found + of_prefect(rest)
        case ["dvc", *rest]:
            return found + of_dvc(rest)
    return found if not words else None


def of_msclnet(words: list[str]) -> list[str]:
    from typer.main import get_command

    from pipelines.cli import _one_by_one, app

    known: Any = get_command(app)
    if not words:
        return []
    if words[0] not in known.commands:
        return [f"msclnet has no command {words[0]}"]
    if len(words) == 1:  # a command as text names it
        return []
    command = known.commands[words[0]]
    if "..." in words:
        options = {option for parameter in command.params for option in parameter.opts}
        return [f"no option {word}" for word in words if word.startswith("-") and word not in options]
    try:
        given = command.make_context(words[0], _one_by_one(words)[1:]).params
    except Exception as error:
        return [f"{type(error).__name__}: {getattr(error, 'message', error)}"]
    found = []
    preset = given["name"] if words[0] == "preset" else given.get("preset")
    if preset and not (ROOT / "presets" / f"{preset}.yaml").is_file():
        found.append(f"no preset {preset}")
    found += [f"no parameter {s}" for s in given.get("set_") or () if not has_key(s.partition("=")[0])]
    if given.get("until") and given["until"] not in read("dvc.yaml")["stages"]:
        found.append(f"no stage {given['until']}")
    if grid := given.get("grid"):
        if not (ROOT / "experiments" / f"{grid}.yaml").is_file():
            return [*found, f"no grid {grid}"]
        found += [f"grid {grid} has no row {row}" for row in given["rows"] or () if row not in rows_of(grid)]
    return found


def rows_of(grid: str) -> set[str]:
    rows = read(f"experiments/{grid}.yaml")["rows"]
    return rows_of(rows) if isinstance(rows, str) else {row["name"] for row in rows}


def of_benchmarks(words: list[str]) -> list[str]:
    source = text_of("benchmarks/__main__.py")
    sections = next(
        ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SECTIONS"
    )
    return [
        f"benchmarks know no {word}"
        for word in words
        if (f'"{word}"' not in source if word.startswith("-") else word not in sections)
    ]


def of_make(words: list[str]) -> list[str]:
    makefile = text_of("Makefile")
    targets = re.findall(r"(?m)^([\w-]+):", makefile)
    found = []
    for word in words:
        name, separator, _ = word.partition("=")
        if not (re.search(rf"\b{name}\b", makefile) if separator else name in targets):
            found.append(f"make knows no {word}")
    return found


def of_prefect(words: list[str]) -> list[str]:
    flow, _, deployment = words[0].partition("/")
    functions = {
        node.name: [argument.arg for argument in node.args.args]
        for node in ast.parse(text_of("pipelines/flows.py")).body
        if isinstance(node, ast.FunctionDef)
    }
    declared = {(e["entrypoint"].partition(":")[2], e["name"]) for e in read("prefect.yaml")["deployments"]}
    if deployment != "NAME" and (flow, deployment) not in declared:
        return [f"no deployment {words[0]}"]
    found, rest = [], words[1:]
    while rest:
        option = rest.pop(0)
        if option == "--param" and rest:
            name = rest.pop(0).partition("=")[0]
            if name not in functions[flow]:
                found.append(f"flow {flow} has no parameter {name}")
        elif option != "--watch":
            found.append(f"not expected: {option}")
    return found


@cache
def dvc_parser() -> Any:
    from dvc.cli.parser import get_main_parser

    with patch("sys.argv", ["dvc"]):  # DVC looks there for -v and -q as it makes its parser
        return get_main_parser()


def of_dvc(words: list[str]) -> list[str]:
    parser = dvc_parser()
    path, rest = "dvc", list(words)
    while parser._subparsers and rest:
        choices = parser._subparsers._group_actions[0].choices
        if rest[0] not in choices:
            return [f"{path} has no command {rest[0]}"]
        path = f"{path} {rest[0]}"
        parser = choices[rest.pop(0)]
    options = [word.partition("=")[0] for word in rest if word.startswith("-")]
    found = [f"{path} has no option {o}" for o in options if o not in parser._option_string_actions]
    if path in ("dvc repro", "dvc commit"):
        stages = read("dvc.yaml")["stages"]
        found += [f"no stage {word}" for word in rest if not word.startswith("-") and word not in stages]
    if path == "dvc exp run":
        keys = [word.partition("=")[0] for word in rest if "=" in word]
        found += [f"no parameter {key}" for key in keys if not has_key(key)]
    return found


@cache
def variables() -> dict[str, Any]:
    """Each variable of the environment with its default."""
    return {
        str(field.validation_alias or f"MSCLNET_{name.upper()}"): field.default
        for name, field in Settings.model_fields.items()
    } | dict.fromkeys(OTHER_VARIABLES)


def all_commands(document: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for block in blocks(document):
        if block.language in SHELL:
            yield from ((f"line {block.line}", words) for words in commands(block.text))
    for span in spans(document):
        if re.match(r"(?:[A-Z_]+=\S+ )*(?:msclnet|make|dvc|prefect deployment run|python -m)(?: |$)", span):
            yield span, tuple(shlex.split(span))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_can_be_given_as_they_stand(document: str) -> None:
    wrong = [(where, words, found) for where, words in all_commands(document) if (found := mistakes(words))]
    assert wrong == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_shell_block_is_parsed_whole_or_says_what_it_needs(document: str) -> None:
    for block in blocks(document):
        if block.language in SHELL:
            unknown = [" ".join(words) for words in commands(block.text) if mistakes(words) is None]
            assert not unknown or block.needs, f"{document}:{block.line}: {unknown}"


def test_the_commands_in_the_comments_of_prefect_yaml() -> None:
    lines = re.findall(r"(?m)^# +(prefect deployment run .+)$", text_of("prefect.yaml"))
    assert len(lines) > 3
    assert [found for line in lines if (found := mistakes(tuple(shlex.split(line))))] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_other_blocks_can_be_read(document: str) -> None:
    for block in blocks(document):
        if block.language == "yaml":
            YAML(typ="safe", pure=True).load(block.text)
        if block.language == "python":
            for node in ast.walk(ast.parse(block.text)):
                if isinstance(node, ast.ImportFrom) and str(node.module).startswith("msclnet"):
                    names = [f"{node.module}.{alias.name}" for alias in node.names]
                    assert [name for name in names if not is_importable(name)] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_and_names_exist(document: str) -> None:
    text = text_of(document)
    paths = re.findall(rf"(?<![\w/.@-])((?:{NAMED_BY_FILES})/[\w./<>*{{}}-]*)", text)
    paths = [
        path
        for path in paths
        if not re.search(r"[<>*{}]", path) and not re.match(r"data/\w+/(?!README)", path)
    ]
    paths += [f"msclnet/{path}" for path in re.findall(rf"`((?:{IN_MSCLNET})/\w+\.py)`", text)]
    assert [path for path in paths if not (ROOT / path.rstrip(".")).exists()] == []

    links = re.findall(r"\]\(([\w./-]+)\)", text)
    assert [link for link in links if not (ROOT / document).parent.joinpath(link).exists()] == []

    tests = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert [name for name in re.findall(r"\btest_\w+\.py", text) if tests.count(name) != 1] == []

    dotted = re.findall(
        r"\b((?:msclnet|pipelines|benchmarks)(?:\.[A-Za-z_]\w*)+)(?![\w/<])", "\n".join(spans(document))
    )
    assert [name for name in dotted if not name.endswith(".md") and not is_importable(name)] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_functions_and_constants_are_in_the_files_that_are_named(document: str) -> None:
    text = text_of(document)
    named = re.findall(r"`([\w/]+\.py)` `([A-Za-z_]\w*(?:\.\w+)?)`", text)
    named += [(file, name) for name, file in re.findall(r"`([A-Z][A-Z_]+)`, `([\w/]+\.py)`", text)]
    for file, name in named:
        path = next(top / file for top in (ROOT, ROOT / "msclnet") if (top / file).is_file())
        assert name in definitions(path), (file, name)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_parameters_and_variables_exist(document: str) -> None:
    sections = "|".join(key for key, value in read("params.yaml").items() if isinstance(value, dict))
    keys = [re.match(rf"(?:{sections})(?:\.\w+)+(?=[:=,]|$)", span) for span in spans(document)]
    missing = [key[0] for key in keys if key and not has_key(key[0])]
    assert [key for key in missing if not key.endswith((".safetensors", ".py", ".csv", ".json"))] == []
    names = re.findall(r"\bMSCLNET_[A-Z_]+[A-Z]\b", text_of(document))
    assert [name for name in names if name not in variables()] == []


def test_the_table_of_variables_has_all_of_them_with_their_defaults() -> None:
    section = (
        text_of("docs/operations.md").partition("## Variables of the environment")[2].partition("\n## ")[0]
    )
    found = {}
    for names, default in re.findall(r"(?m)^\| (`[^|]+`) \| ([^|]*) \|", section):
        found |= {
            name: value.strip("` ")
            for name, value in zip(re.findall(r"`(\w+)`", names), default.split(", "), strict=False)
        }
    assert set(found) == set(variables()) - set(OTHER_VARIABLES)
    given = {name: str(default) for name, default in variables().items() if default is not None}
    assert {name: found[name].partition(":")[0] for name in given} == given


def test_the_readme_is_short_and_its_tree_names_every_package_folder() -> None:
    text = text_of("README.md")
    assert len(text.splitlines()) <= LONGEST_README
    tree = text[text.index("## Where to read on") :].split("```")[1]
    named, parent = set(), ""
    for line in tree.splitlines():
        if entry := re.match(r"( *)([\w/]+)/\s", line):
            parent = parent if entry[1] else entry[2]
            named.add(entry[2] if not entry[1] else f"{parent}/{entry[2]}")
    assert [name for name in sorted(named) if not (ROOT / name).is_dir()] == []
    packages = {
        path.relative_to(ROOT).as_posix()
        for top in ("msclnet", "pipelines")
        for path in (ROOT / top).iterdir()
        if (path / "__init__.py").is_file()
    }
    assert packages <= named


@pytest.mark.parametrize(
    ("command", "mistake"),
    [
        ("msclnet grow", "no command grow"),
        ("msclnet train --seed 3", "No such option"),
        ("msclnet train --set train.epoch=3", "no parameter train.epoch"),
        ("msclnet preset no-such", "no preset"),
        ("msclnet grid ablation --rows no-such", "no row no-such"),
        ("msclnet grid no-such", "no grid no-such"),
        ("make no-such", "make knows no no-such"),
        ("prefect deployment run train/nightly", "no deployment"),
        ("prefect deployment run train/train --param epochs=3", "no parameter epochs"),
        ("dvc repro source", "no stage source"),
        ("dvc exp run --no-such", "no option --no-such"),
        ("dvc exp run -S train.epoch=3", "no parameter train.epoch"),
        ("python -m benchmarks --only training", "know no --only"),
        ("python -m pipelines.preset baseline", "no module pipelines.preset"),
        ("MSCLNET_RAW=/data dvc repro", "no variable MSCLNET_RAW"),
    ],
)
def test_a_wrong_command_is_found(command: str, mistake: str) -> None:
    assert mistake in " ".join(mistakes(tuple(shlex.split(command))) or [])
