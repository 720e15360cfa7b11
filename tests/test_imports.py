"""Who may import whom, and whether dvc.yaml names all that a stage reads: by the import statements alone."""

import ast
import importlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from pipelines.stages.config import Params

ROOT = Path(__file__).resolve().parents[1]
# From the bottom. A module imports lower floors and its own room: a folder, or a file by itself.
FLOORS = (
    (
        "msclnet.errors",
        "msclnet.features",
        "msclnet.files",
        "msclnet.precision",
        "msclnet.progress",
        "msclnet.recipe",
    ),
    (
        "msclnet.datasets",
        "msclnet.figures",
        "msclnet.losses",
        "msclnet.models",
        "msclnet.retrieval",
        "msclnet.tracking",
        "msclnet.worker_processes",
    ),
    ("msclnet.distributed", "msclnet.embedding", "msclnet.images", "msclnet.synthetic"),
    ("msclnet.export", "msclnet.gallery", "msclnet.tracking.served_model", "msclnet.training"),
    ("pipelines.console", "pipelines.settings"),
    ("pipelines.stages",),
    ("pipelines.orchestration",),
    ("pipelines.experiments",),
    ("pipelines.report", "pipelines.search", "pipelines.up"),
    ("pipelines.gallery",),
    ("pipelines.release",),
    ("pipelines.flows",),
    ("pipelines.cli",),
    ("pipelines.__main__",),
)
# Of the rooms that lie between these and the bottom floor, the only ones that they import.
KNOWN = {
    "msclnet.distributed": (),
    "msclnet.embedding": ("msclnet.models",),
    "msclnet.images": ("msclnet.datasets", "msclnet.worker_processes"),
    "msclnet.synthetic": ("msclnet.datasets", "msclnet.worker_processes"),
    "msclnet.export": ("msclnet.embedding", "msclnet.models"),
    "msclnet.gallery": (
        "msclnet.datasets",
        "msclnet.figures",
        "msclnet.images",
        "msclnet.models",
        "msclnet.retrieval",
    ),
    "msclnet.tracking.served_model": ("msclnet.embedding",),
    "msclnet.training": ("msclnet.distributed", "msclnet.losses"),
}
RUN_BY_MLFLOW = "msclnet.tracking.served_model"  # a file that a registered model carries; no import names it
DOORS = ("msclnet.models", "msclnet.losses", "msclnet.retrieval")
STAGES = ("download", "preprocess", "train", "embed", "evaluate", "visualize")

# Changing one of these changes no result: messages, bars, plain types and where the figures are reported.
WITHOUT_EFFECT = (
    "msclnet/errors.py",
    "msclnet/files.py",
    "msclnet/progress.py",
    "msclnet/datasets/records.py",
    "msclnet/tracking/",
)


@cache
def modules() -> dict[str, Path]:
    """Every module of both packages by its dotted name; a package is its __init__."""
    found = {}
    for package in ("msclnet", "pipelines"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imported(module: str) -> frozenset[str]:
    """Absolute names that a module's import statements mention anywhere, `from a import b` as both a and a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(modules()[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            names.add(str(node.module))
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def below(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def place(module: str) -> tuple[int, str]:
    """The floor and the room of a module; the longest name that fits is its room."""
    fitting = [(floor, room) for floor, rooms in enumerate(FLOORS) for room in rooms if below(module, room)]
    assert fitting, f"{module} belongs to no floor"
    return max(fitting, key=lambda found: len(found[1]))


@cache
def uses(module: str) -> frozenset[str]:
    """The project's modules that a module's import statements name: of `from a import b` either a.b or a."""
    found = set()
    for node in ast.walk(ast.parse(modules()[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in modules() else str(node.module) for name in names}
    return frozenset(found & set(modules()) - {"msclnet", "pipelines"})


def reached(starts: Iterable[str]) -> set[str]:
    """All modules that these import, directly or through others, themselves included."""
    seen: set[str] = set()
    waiting = list(starts)
    while waiting:
        if (name := waiting.pop()) not in seen:
            seen.add(name)
            waiting += uses(name)
    return seen


def reached_from(module: str) -> set[str]:
    """The project's modules that importing one module executes or may execute later, itself included."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen or name not in modules():
            continue
        seen.add(name)
        if not below(name, "msclnet.tracking"):
            waiting += imported(name)
    return seen


def read(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


@cache
def stages() -> dict[str, Any]:
    """Stages by name; the source of the synthetic data set in the place of the parameter that names it."""
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8").replace("${download.source}", "msclnet/synthetic")
    return YAML(typ="safe", pure=True).load(text)["stages"]


def outs_of(stage: dict[str, Any]) -> set[str]:
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
    return {next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries}


def test_the_graph_is_read_at_all() -> None:
    """Guards the other tests against passing on an empty graph."""
    assert "msclnet.datasets.records" in imported("msclnet.images.writer")
    assert "numpy" in imported("msclnet.images.writer")
    assert "msclnet.models.mogrifier" in reached_from("pipelines.stages.train")
    assert len(modules()) > 60


def test_the_library_never_imports_the_pipelines() -> None:
    wrong = [
        (module, name)
        for module in modules()
        if below(module, "msclnet")
        for name in imported(module)
        if below(name, "pipelines")
    ]
    assert wrong == []


def test_imports_run_down_only() -> None:
    wrong = []
    for module in modules():
        if module in ("msclnet", "pipelines"):
            continue
        floor, room = place(module)
        for name in uses(module):
            lower, other = place(name)
            allowed = KNOWN.get(room, (other,)) if lower else (other,)
            if other != room and (lower >= floor or other not in allowed):
                wrong.append((module, name))
    assert wrong == []


def test_no_module_imports_itself_through_others() -> None:
    """Imports within functions and for type checking count as well."""
    assert [module for module in modules() if module in reached(uses(module))] == []


def test_every_module_of_the_library_is_used_by_a_stage_or_a_command() -> None:
    starts = {f"pipelines.stages.{stage}" for stage in STAGES} | {"pipelines.__main__", RUN_BY_MLFLOW}
    used = reached(starts)
    packages = {module for module, path in modules().items() if path.name == "__init__.py"}
    assert sorted(set(modules()) - used - packages) == []


@pytest.mark.parametrize(
    ("library", "place"), [("mlflow", "msclnet.tracking"), ("prefect", "pipelines.flows")]
)
def test_a_service_is_imported_in_one_place(library: str, place: str) -> None:
    importing = {module for module in modules() if any(below(name, library) for name in imported(module))}
    assert importing
    assert [module for module in importing if not below(module, place)] == []


def test_packages_import_nothing_but_their_public_names() -> None:
    """A door names what it offers, of its own package alone."""
    for package, path in modules().items():
        if path.name != "__init__.py":
            continue
        body = ast.parse(path.read_text(encoding="utf-8")).body
        doors = [node for node in body if isinstance(node, ast.ImportFrom)]
        names = {alias.name for node in doors for alias in node.names}
        assert len(body) <= 1 or package in DOORS, path
        assert all(below(str(node.module), package) for node in doors), path
        if package in DOORS:
            assert set(importlib.import_module(package).__all__) == names


@pytest.mark.parametrize("stage", STAGES)
def test_params_of_a_stage_are_in_schema_and_file(stage: str) -> None:
    values = read(ROOT / "params.yaml")
    for key in stages()[stage].get("params", []):
        schema: Any = Params
        found = values
        for part in key.split("."):
            assert isinstance(schema, type), key
            assert issubclass(schema, BaseModel), key
            names = {field.alias or name: field for name, field in schema.model_fields.items()}
            assert part in names, f"{key} is not in the schema"
            assert part in found, f"{key} is not in params.yaml"
            schema, found = names[part].annotation, found[part]


@pytest.mark.parametrize("stage", STAGES)
def test_deps_exist_or_are_made(stage: str) -> None:
    made = set().union(*(outs_of(other) for name, other in stages().items() if name != stage))
    for dep in stages()[stage]["deps"]:
        assert dep in made or (ROOT / dep).exists(), dep


def test_stages_are_the_known_ones_and_make_each_file_once() -> None:
    assert tuple(stages()) == STAGES
    outs = [out for stage in stages().values() for out in outs_of(stage)]
    assert len(outs) == len(set(outs))


@pytest.mark.parametrize("stage", STAGES)
def test_deps_name_all_code_that_a_stage_runs(stage: str) -> None:
    deps = stages()[stage]["deps"]
    assert stages()[stage]["cmd"] == f"python -m pipelines.stages.{stage}"
    assert f"pipelines/stages/{stage}.py" in deps
    reached = [
        modules()[name].relative_to(ROOT).as_posix() for name in reached_from(f"pipelines.stages.{stage}")
    ]
    missing = sorted(
        path
        for path in reached
        if path.startswith("msclnet/")
        and not path.endswith("__init__.py")
        and not path.startswith(WITHOUT_EFFECT)
        and not any(path == dep or path.startswith(f"{dep}/") for dep in deps)
    )
    assert not missing, f"{stage} runs code that no dep of it names:\n" + "\n".join(missing)


@pytest.mark.parametrize("stage", STAGES)
def test_code_deps_are_used(stage: str) -> None:
    """A file that a stage names but never imports would rerun it for nothing."""
    reached = [
        modules()[name].relative_to(ROOT).as_posix() for name in reached_from(f"pipelines.stages.{stage}")
    ]
    for dep in stages()[stage]["deps"]:
        if dep.startswith(("msclnet/", "pipelines/")):
            assert any(path == dep or path.startswith(f"{dep}/") for path in reached), dep
