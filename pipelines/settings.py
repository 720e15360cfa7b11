"""Settings of the machine. They come from the environment and never change a result, so they are no parameters.

`Settings` holds every variable with its meaning and default; README.md and docs/operations.md refer to it. Processes
that were started together find each other by torchrun's variables RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE.
"""

import ctypes
import getpass
import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from msclnet.errors import UserError

if TYPE_CHECKING:
    import torch

QUIET = {
    "DO_NOT_TRACK": "true",  # MLflow accepts only this word
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "DVC_NO_ANALYTICS": "true",
}
LOOPBACK = ("127.0.0.1", "localhost", "::1")

# What an enclosing DVC stage, git hook or Python would pass on, and what would lead a stage to other files.
_MISLEADING = (
    *("DVC_ROOT", "DVC_STAGE", "DVC_EXP_BASELINE_REV", "DVC_EXP_NAME"),
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "PYTHONSAFEPATH"),
)


class Settings(BaseSettings):
    """The variables, MSCLNET_ before each name but those of the ports; an empty one counts as not set."""

    model_config = SettingsConfigDict(
        env_prefix="MSCLNET_", env_ignore_empty=True, extra="ignore", frozen=True
    )

    home: Path | None = Field(
        default=None, description="folder of checkpoints and the local MLflow database; default: the project"
    )
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N")
    processes: int = Field(
        default=1, ge=1, description="processes that train and embed together, each on its own GPU if any"
    )
    workers: int | None = Field(
        default=None, ge=0, description="processes that prepare images; default: by the number of cores"
    )
    threads: int = Field(
        default=0, ge=0, description="threads of torch on the CPU and of the evaluation; 0: their defaults"
    )
    cuda_graphs: Literal["on", "off"] = Field(
        default="on", description="record the training step of a GPU as a CUDA graph"
    )
    keep_checkpoints: int = Field(
        default=2, ge=1, description="how many of a training's latest checkpoints are kept"
    )
    project: Path | None = Field(
        default=None, description="the user's project, set by the runs in copies of it"
    )
    token: str | None = Field(
        default=None, description="what requests to the search page must carry, for msclnet serve --host"
    )
    mlflow_port: int = Field(
        default=5000, ge=1, le=65535, validation_alias="MLFLOW_PORT", description="port of MLflow, make up"
    )
    prefect_port: int = Field(
        default=4200, ge=1, le=65535, validation_alias="PREFECT_PORT", description="port of Prefect, make up"
    )


def read_settings() -> Settings:
    """The settings, as the environment is now; every variable whose value is not allowed is named."""
    try:
        return Settings()
    except ValidationError as error:
        raise UserError("\n".join(_mistake(problem) for problem in error.errors())) from error


def home(root: Path | None = None) -> Path:
    """Folder of `mlruns/`, `checkpoints/` and `.prefect/`; absolute.

    Where MSCLNET_HOME is not set it is `root`, by default the project whose stage DVC runs, or the present folder.
    """
    return _absolute(read_settings().home or root or Path(os.environ.get("DVC_ROOT") or "."))


def project() -> Path:
    """The user's project, to which relative paths in params.yaml refer, also in a copy of it."""
    return _absolute(read_settings().project or Path())


def project_root() -> Path:
    """The nearest folder, from the present one upwards, that has a dvc.yaml."""
    start = Path.cwd().resolve()
    for folder in (start, *start.parents):
        if (folder / "dvc.yaml").is_file():
            return folder
    raise UserError(f"no dvc.yaml in {start} or above it: change to the project's folder first")


def prepare_process() -> None:
    """Prepare this process and those that it starts; every command and stage calls it first.

    No telemetry; no proxy for servers on this machine; a name and a home where the user has none (a container's user
    without an entry in /etc/passwd); output that a terminal's encoding lacks is escaped.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for name in ("NO_PROXY", "no_proxy"):
        given = [entry for entry in os.environ.get(name, "").split(",") if entry]
        os.environ[name] = ",".join(dict.fromkeys([*given, *LOOPBACK]))
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        # httpx, which Prefect uses, refuses to start with a SOCKS proxy that it cannot use, whatever NO_PROXY says.
        if os.environ[name].startswith("socks") and find_spec("socksio") is None:
            del os.environ[name]
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = f"user{os.getuid()}"
    if not os.access(os.path.expanduser("~"), os.W_OK):
        os.environ["HOME"] = str(home())
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")


def stage_environment(
    root: Path, *, workspace: Path, extra: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment of one stage's process."""
    variables = {key: value for key, value in os.environ.items() if key not in _MISLEADING}
    variables |= QUIET
    # `python` in the commands of dvc.yaml is this interpreter, whether the environment is activated or not.
    variables["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), variables.get("PATH", os.defpath)])
    variables["MSCLNET_HOME"] = str(home(root))
    variables["MSCLNET_PROJECT"] = str(root)
    variables["PYTHONUNBUFFERED"] = "1"
    if workspace != root:
        # A program that does not search the present folder would import the installed package, the user's own.
        paths = [str(workspace), *filter(None, [variables.get("PYTHONPATH")])]
        variables["PYTHONPATH"] = os.pathsep.join(paths)
        # Byte code is matched by second and size, too coarse for files that each run writes again.
        variables["PYTHONDONTWRITEBYTECODE"] = "1"
        variables["DVC_SITE_CACHE_DIR"] = str(workspace / ".dvc" / "tmp" / "site")
    variables.pop("MSCLNET_FLOW_RUN_ID", None)  # the tag of another run
    return variables | dict(extra or {})


def cores() -> int:
    """Cores that this process may use: its share of them where it was started together with others."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, count // _rank("LOCAL_WORLD_SIZE", 1)) if started_together() else count


def threads() -> int:
    """Threads of the evaluation."""
    return read_settings().threads or cores()


def started_together() -> bool:
    """Whether this process is one of several that were started together."""
    return _rank("WORLD_SIZE", 1) > 1 and "RANK" in os.environ


def workers(default: int) -> int:
    """Number of worker processes."""
    given = read_settings().workers
    return default if given is None else given


def device() -> "torch.device":
    """The device that MSCLNET_DEVICE names; `auto` takes a GPU when there is one.

    Processes that were started together get a GPU each. This also sets torch's threads and, on a CPU, the C library.
    """
    import torch

    settings = read_settings()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    name = settings.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and started_together():
        name = _own_gpu(name, torch.cuda.device_count())
    try:
        chosen = torch.device(name)
        if chosen.type not in ("cpu", "cuda"):
            raise RuntimeError("not supported")
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"MSCLNET_DEVICE: {name!r} cannot be used here ({reason}); set auto, cpu or cuda"
        ) from error
    if chosen.type == "cpu":
        keep_freed_memory()
    return chosen


def _own_gpu(name: str, count: int) -> str:
    together = _rank("LOCAL_WORLD_SIZE", 1)
    if together == 1:
        return name
    if name != "cuda":
        raise UserError(
            f"MSCLNET_DEVICE: {name!r} is one GPU, but {together} processes on this machine need one each; "
            "set cuda, and choose among the GPUs by CUDA_VISIBLE_DEVICES"
        )
    if count < together:
        raise UserError(
            f"{together} processes on this machine need a GPU each, but there are {count}; set MSCLNET_PROCESSES "
            "(or torchrun's --nproc-per-node) to that number, or MSCLNET_DEVICE to cpu"
        )
    return f"cuda:{_rank('LOCAL_RANK', 0)}"


def keep_freed_memory() -> None:
    """Have the C library reuse freed memory instead of giving it back to the system.

    glibc gives each block of 32 MiB or more back as soon as it is freed, and the next one comes page by page, zeroed:
    that took a fifth of a ResNet-50's training step of 64 images. The price is that the process stays as large as it
    ever was. Other C libraries are left as they are.
    """
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of glibc's malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(trim_threshold, -1)
    mallopt(mmap_max, 0)


def _absolute(path: Path) -> Path:
    return Path(os.path.expanduser(path)).resolve()


def _rank(variable: str, default: int) -> int:
    text = os.environ.get(variable) or str(default)
    if not (text.isascii() and text.isdigit()):
        raise UserError(f"{variable}: expected a whole number, as torchrun sets it, not {text!r}")
    return int(text)


def _mistake(problem: Any) -> str:
    name = str(problem["loc"][0])
    variable = name if name.isupper() else f"MSCLNET_{name.upper()}"
    field = next(f for n, f in Settings.model_fields.items() if name in (n, f.validation_alias))
    expected = problem["msg"].removeprefix("Input should be ")
    return (
        f"{variable}: expected {expected}, not {problem['input']!r} ({field.description}); "
        f"set it so, or unset it for the default"
    )
