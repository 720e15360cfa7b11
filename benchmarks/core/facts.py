"""What was measured on: machine, versions, date, and how busy it was."""

import os
import platform
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from benchmarks.core.memory import GIB
from pipelines import settings

PACKAGES = ("torch", "numpy", "openvino", "dvc")
BUSY = 0.3  # of a core that others use, on average, before anything was started


def facts() -> dict[str, Any]:
    """Plain values for the report."""
    return {
        "date": date.today().isoformat(),
        "processor": processor(),
        "cores": settings.cores(),
        "memory_GiB": round(psutil.virtual_memory().total / GIB),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "versions": {name: installed(name) for name in PACKAGES},
        "gpu": gpu(),
        "load": round(os.getloadavg()[0], 2),
    }


def busy(load: float) -> bool:
    """Whether others were at work: then ratios within a run are all that can be trusted."""
    return load > BUSY


def processor() -> str:
    """The model's name and the instructions that matter here."""
    information = Path("/proc/cpuinfo")
    if not information.exists():
        return platform.processor() or platform.machine()
    lines: dict[str, str] = {}
    for line in information.read_text().splitlines():
        name, _, value = line.partition(":")
        lines[name.strip()] = value.strip()
    flags = set(lines.get("flags", lines.get("Features", "")).split())
    known = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "bf16") if name in flags]
    return f"{lines.get('model name', platform.machine())} ({', '.join(known) or 'no vector instructions known'})"


def installed(package: str) -> str:
    """Its version, or `not installed`."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def gpu() -> str:
    """Its name, or `none`."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
