"""What could run code, or fill the memory, from a file or an address: each such call has one place, with its bound.

By the statements of the source alone. The bounds themselves are tested where they are.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    path for folder in ("msclnet", "pipelines", "benchmarks") for path in (ROOT / folder).rglob("*.py")
)

# They run what a file says, or read YAML by the rules of 2005.
FORBIDDEN_MODULES = (
    "pickle",
    "cloudpickle",
    "dill",
    "joblib",
    "marshal",
    "shelve",
    "yaml",
    "xml",
    "code",
    "pty",
)
FORBIDDEN_BUILTINS = ("eval", "exec", "compile", "__import__")
FORBIDDEN_CALLS = (
    "os.system", "popen", "mktemp", "extractall", "extract", "unpack_archive", "imread", "jit.load",
    "hub.load", "fromfile", "load_state_dict_from_url",
)  # fmt: skip
# Name of a function, whatever stands before the dot -> the files that may call it.
PLACES = {
    "open_memmap": ("msclnet/images/writer.py",),
    # The last two open what the project itself has drawn or stored.
    "Image.open": (
        "msclnet/images/decode.py",
        "pipelines/gallery/search.py",
        "pipelines/orchestration/summary.py",
    ),
    "loadmat": ("msclnet/retrieval/sampling.py",),
    "load_model": (),
    "YAML": ("pipelines/stages/config.py", "pipelines/stages/presets.py"),
    "build_opener": (),
    # Of names that stand in our own code, for packages that may be missing or are imported late.
    "import_module": ("msclnet/export/stream.py", "benchmarks/__main__.py"),
    "urlopen": ("pipelines/up.py",),
    "urlretrieve": (),
    "tarfile.open": ("msclnet/datasets/archive.py",),  # read as a stream, never unpacked
}
# Function -> the argument that it must be given, as it must be.
ARGUMENTS = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}


def dotted(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return f"{dotted(function.value)}.{function.attr}"
    return function.id if isinstance(function, ast.Name) else ""


def is_called(name: str, function: str) -> bool:
    return name == function or name.endswith(f".{function}")


def findings(source: str, file: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = (
                [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            )
            yield from (
                f"imports {module}" for module in modules if module.partition(".")[0] in FORBIDDEN_MODULES
            )
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        given = {each.arg: each.value for each in node.keywords}
        if name in FORBIDDEN_BUILTINS or any(is_called(name, function) for function in FORBIDDEN_CALLS):
            yield f"calls {name}"
        for function, files in PLACES.items():
            if is_called(name, function) and file not in files:
                yield f"calls {name}"
        for function, (argument, value) in ARGUMENTS.items():
            found = given.get(argument)
            if is_called(name, function) and not (isinstance(found, ast.Constant) and found.value is value):
                yield f"calls {name} without {argument}={value}"
        shell = given.get("shell")
        if shell is not None and not (isinstance(shell, ast.Constant) and shell.value is False):
            yield f"calls {name} with a shell"


def test_nothing_untrusted_is_run_or_read_without_bounds() -> None:
    found = {}
    for path in FILES:
        file = path.relative_to(ROOT).as_posix()
        if wrong := list(findings(path.read_text(encoding="utf-8"), file)):
            found[file] = wrong
    assert len(FILES) > 150
    assert found == {}


@pytest.mark.parametrize(
    ("source", "finding"),
    [
        ("import pickle", "imports pickle"),
        ("from joblib import load", "imports joblib"),
        ("import xml.etree.ElementTree", "imports xml.etree.ElementTree"),
        ("torch.load(path)", "calls torch.load without weights_only=True"),
        ("torch.load(path, weights_only=False)", "calls torch.load without weights_only=True"),
        ("np.load(path, mmap_mode='r')", "calls np.load without allow_pickle=False"),
        ("subprocess.run('ls', shell=True)", "calls subprocess.run with a shell"),
        ("os.system('ls')", "calls os.system"),
        ("eval(text)", "calls eval"),
        ("archive.extractall(folder)", "calls archive.extractall"),
        ("Image.open(path)", "calls Image.open"),
        ("YAML().load(text)", "calls YAML"),
        ("mlflow.pyfunc.load_model(uri)", "calls mlflow.pyfunc.load_model"),
    ],
)
def test_the_search_finds_them(source: str, finding: str) -> None:
    assert finding in list(findings(source, "pipelines/some.py"))


def test_the_places_are_in_use() -> None:
    """A name that is called nowhere would guard nothing."""
    for function, files in PLACES.items():
        for file in files:
            calls = [
                node for node in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(node, ast.Call)
            ]
            assert any(is_called(dotted(call.func), function) for call in calls), (function, file)
