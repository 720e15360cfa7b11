"""Commands of the way from a run back to its state, and of the release."""

from pathlib import Path
from typing import Annotated

import typer


def restore(
    run: Annotated[str, typer.Argument(help="An MLflow run's id, or the name of a DVC experiment.")],
    into: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="A new folder. [default: restored/ID]")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Run the stages there again and compare with the record.")
    ] = False,
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="STAGE", help="With --verify: the first stage. [default: all]"),
    ] = None,
) -> None:
    """Bring back the code, parameters, data and results of a run, in a new folder.

    Exit status 1: --verify found other figures; what differs is printed by stage.

    Example: msclnet restore 515b5742365047c8aab6f7aaa4c0008e --verify
    """
    from pipelines.release.restore import restore
    from pipelines.settings import project_root

    if not restore(project_root(), run, into=into, verify=verify, first_stage=from_):
        raise typer.Exit(1)
