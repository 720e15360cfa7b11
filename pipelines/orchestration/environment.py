"""The environment of the processes that are started: quiet, offline, and told where the project's home is."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

QUIET = {
    "DO_NOT_TRACK": "true",  # MLflow accepts only this word
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "DVC_NO_ANALYTICS": "true",
}

# What an enclosing DVC stage, git hook or Python would pass on, and what would lead a stage to other files.
_MISLEADING = (
    "DVC_ROOT",
    "DVC_STAGE",
    "DVC_EXP_BASELINE_REV",
    "DVC_EXP_NAME",
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "PYTHONSAFEPATH",
)


def project_root(start: Path | None = None) -> Path:
    """The nearest folder at or above `start` (default: the present folder) that has a dvc.yaml.

    Raises:
        UserError: there is none.
    """
    from msclnet.errors import UserError

    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "dvc.yaml").is_file():
            return folder
    raise UserError(f"no dvc.yaml in {start} or above it: change to the project's folder first")


def home(root: Path) -> Path:
    """The folder that keeps what belongs to no single run: mlruns, checkpoints, .prefect.

    MSCLNET_HOME where it is set, otherwise the project itself; always absolute.
    """
    return Path(os.environ.get("MSCLNET_HOME") or root).expanduser().resolve()


def stage_environment(
    root: Path, *, workspace: Path, flow_run_id: str | None = None, extra: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment of one stage.

    Args:
        root: the user's project.
        workspace: where the stage runs: the project itself, or an isolated copy of it.
        flow_run_id: the Prefect flow run, tagged on the MLflow run.
        extra: further variables.

    Returns:
        All variables of the child process.
    """
    variables = {key: value for key, value in os.environ.items() if key not in _MISLEADING}
    variables |= QUIET
    # `python` in the commands of dvc.yaml is this interpreter, activated environment or not.
    variables["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), variables.get("PATH", os.defpath)])
    variables["MSCLNET_HOME"] = str(home(root))
    variables["MSCLNET_PROJECT"] = str(root)
    variables["PYTHONUNBUFFERED"] = "1"
    if workspace != root:
        # A program that does not search the present folder would import the installed, the user's package.
        paths = [str(workspace), *filter(None, [variables.get("PYTHONPATH")])]
        variables["PYTHONPATH"] = os.pathsep.join(paths)
        # Byte code is matched by second and size, too coarse for files that a slot rewrites for each run.
        variables["PYTHONDONTWRITEBYTECODE"] = "1"
    if flow_run_id:
        variables["MSCLNET_FLOW_RUN_ID"] = flow_run_id
    else:
        variables.pop("MSCLNET_FLOW_RUN_ID", None)
    return variables | dict(extra or {})
