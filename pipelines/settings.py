"""Facts of the machine. They come from the environment and never change a result, so they are no params.

MSCLNET_HOME       where checkpoints and the default MLflow database live (default: the project's root)
MSCLNET_DEVICE     auto (default), cpu, cuda or cuda:N
MSCLNET_PROCESSES  processes that train and embed together, each on a GPU of its own where there are any (default: 1)
MSCLNET_WORKERS    processes that prepare batches or images (default: by the number of cores)
MSCLNET_RAW        where the images of a real data set lie: a folder, an archive or a URL
MSCLNET_THREADS    threads of torch on the CPU (default: torch's own) and of the evaluation (default: the cores)
MSCLNET_CUDA_GRAPHS  on (default) or off: whether a GPU takes the training step as one CUDA graph
MSCLNET_KEEP_CHECKPOINTS  how many of a training's latest checkpoints stay on the disk (default: 2)

Processes that were started together know each other by torchrun's variables: RANK, WORLD_SIZE, LOCAL_RANK (on this
machine) and LOCAL_WORLD_SIZE.
"""

import ctypes
import os
from pathlib import Path
from typing import TYPE_CHECKING

from msclnet.errors import UserError

if TYPE_CHECKING:
    import torch


def home() -> Path:
    """Folder of what outlives a workspace: `mlruns/` and `checkpoints/`."""
    return Path(os.environ.get("MSCLNET_HOME") or os.environ.get("DVC_ROOT") or ".").resolve()


def project() -> Path:
    """The user's project, from which relative paths in params.yaml and MSCLNET_RAW count, also in a copy of it."""
    return Path(os.environ.get("MSCLNET_PROJECT") or ".").resolve()


def cores() -> int:
    """Cores that this process may use: its share of them, where it was started together with others."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, count // _number("LOCAL_WORLD_SIZE", 1)) if started_together() else count


def threads() -> int:
    """Threads of what is no work of torch's."""
    return _number("MSCLNET_THREADS", 0) or cores()


def processes() -> int:
    """Number of processes to start on this machine for a stage that can use several.

    Raises:
        UserError: MSCLNET_PROCESSES is no number of 1 or more.
    """
    count = _number("MSCLNET_PROCESSES", 1)
    if not count:
        raise UserError("MSCLNET_PROCESSES: expected a number of 1 or more, not '0'")
    return count


def started_together() -> bool:
    """Whether this process is one of several that were started together."""
    return _number("WORLD_SIZE", 1) > 1 and "RANK" in os.environ


def workers(default: int) -> int:
    """Number of worker processes.

    Raises:
        UserError: MSCLNET_WORKERS is no number.
    """
    return _number("MSCLNET_WORKERS", default)


def kept_checkpoints() -> int:
    """How many of the latest checkpoints to keep, 1 or more.

    Raises:
        UserError: MSCLNET_KEEP_CHECKPOINTS is no such number.
    """
    kept = _number("MSCLNET_KEEP_CHECKPOINTS", 2)
    if not kept:
        raise UserError(
            "MSCLNET_KEEP_CHECKPOINTS: expected a number of 1 or more, not '0': none to go on from"
        )
    return kept


def device() -> "torch.device":
    """The device that MSCLNET_DEVICE names; `auto` takes a GPU when there is one.

    Processes that were started together get a GPU each, by their number on this machine. On a CPU the process keeps
    from now on what it frees, see `keep_freed_memory`.

    Raises:
        UserError: The device does not exist here.
    """
    import torch

    threads = _number("MSCLNET_THREADS", 0)
    if threads:
        torch.set_num_threads(threads)
    name = os.environ.get("MSCLNET_DEVICE") or "auto"
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
    together = _number("LOCAL_WORLD_SIZE", 1)
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
    return f"cuda:{_number('LOCAL_RANK', 0)}"


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


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable)
    if not text:
        return default
    if not (text.isascii() and text.isdigit()):
        raise UserError(f"{variable}: expected a number of 0 or more, not {text!r}")
    return int(text)
