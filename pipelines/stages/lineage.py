"""What leads from an MLflow run back to its state: commit, uncommitted changes, data, experiment, processor.

`msclnet restore` reads it.
"""

import hashlib
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.stages.config import load_yaml

if TYPE_CHECKING:
    from msclnet.tracking.run import Tracker

LOCK = Path("dvc.lock")
CODE = (
    "dvc.yaml",
    "params.yaml",
    "msclnet",
    "pipelines",
    "presets",
)  # what a stage reads in addition to its data
FOLDER = "lineage"  # of the run's artifacts
CHANGES = f"{FOLDER}/changes.patch"
NO_COMMIT = "none"
GPU_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA's, AMD's, and that of Windows' subsystem


def lineage_tags() -> dict[str, str]:
    """Tags of a run, as the project is now."""
    tags = {
        "git_commit": git_commit(),
        "git_dirty": "true" if uncommitted_changes() else "false",
        "processor": processor(),
    }
    tags |= {f"data.{stage}": digest for stage, digest in data_digests().items()}
    if name := os.environ.get("MSCLNET_EXPERIMENT") or os.environ.get("DVC_EXP_NAME"):
        tags["dvc_experiment"] = name
    return tags


def log_lineage(tracker: "Tracker") -> None:
    """Log dvc.lock and the uncommitted changes among the run's artifacts; those of an earlier stage are replaced."""
    if LOCK.is_file():
        tracker.log_artifact(LOCK, FOLDER)
    tracker.log_text(uncommitted_changes(), CHANGES)


def data_digests() -> dict[str, str]:
    """Digest (16 digits) over dvc.lock's entries of each finished stage; a stage sees those before it."""
    if not LOCK.is_file():
        return {}
    digests = {}
    for name, stage in (load_yaml(LOCK.read_bytes(), source=str(LOCK)) or {}).get("stages", {}).items():
        outputs = sorted((out["path"], out.get("md5", "")) for out in stage.get("outs", []))
        digests[name] = hashlib.sha256(json.dumps(outputs).encode()).hexdigest()[:16]
    return digests


def git_commit() -> str:
    """The commit of this project; `none` without a git repository of its own."""
    if Path(_git("rev-parse", "--show-toplevel").rstrip("\n")) != Path.cwd().resolve():
        return NO_COMMIT
    return _git("rev-parse", "--verify", "--quiet", "HEAD").strip() or NO_COMMIT


def uncommitted_changes() -> str:
    """Code and parameters that differ from the commit, as a patch for `git apply`; empty where nothing does."""
    if git_commit() == NO_COMMIT:
        return ""
    new = _git("ls-files", "--others", "--exclude-standard", "-z", "--", *CODE).split("\0")
    patches = [_git("diff", "--binary", "HEAD", "--", *CODE)]
    patches += [_git("diff", "--binary", "--no-index", "--", os.devnull, path) for path in new if path]
    return "".join(patches)


def processor() -> str:
    """Name of the GPU, or of the processor where there is none or MSCLNET_DEVICE is `cpu`."""
    # Torch takes seconds to import: not in stages without it on machines without a GPU's driver.
    if os.environ.get("MSCLNET_DEVICE", "auto") != "cpu" and any(Path(path).exists() for path in GPU_DRIVERS):
        import torch

        if torch.cuda.is_available():
            return torch.cuda.get_device_name()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _git(*arguments: str) -> str:
    """Output of a git command that writes nothing; empty where it fails (`git diff` ends with 1 for a difference)."""
    command = ["git", "-c", "core.quotePath=false", *arguments]
    variables = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(command, env=variables, capture_output=True, check=False)
    except OSError:
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode in (0, 1) else ""
