"""The commands from a trained network on: export, promote, rollback, restore and release."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=False, help="A registered model as one file that its receiver can check.")

Registered = Annotated[
    str | None, typer.Option(metavar="NAME", help="[default: tracking.registered_model of params.yaml]")
]


def export(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="For the files.")] = Path("results/export"),
) -> None:
    """Write the trained network for other programs: ONNX and, where the package openvino is installed, OpenVINO.

    One graph for each modality. It takes any number of uint8 RGB images as they are stored, (N, height, width, 3), and
    normalises them itself. Each file is compared with the network on real images before it is kept, and logged to the
    training's MLflow run.

    Example: msclnet export --out /srv/models
    """
    from pipelines.release.export import export

    export(out)


def promote(
    version: Annotated[str | None, typer.Argument(help="[default: the one with the alias candidate]")] = None,
    model: Registered = None,
    force: Annotated[bool, typer.Option("--force", help="Promote it whatever the rules say.")] = False,
) -> None:
    """Make a registered version the champion if the rules of params.yaml hold (docs/promotion.md).

    Example: msclnet promote 5
    """
    from pipelines.release.promotion import promote

    promote(version, model=model, force=force)


def rollback(model: Registered = None) -> None:
    """Make the former champion the champion again; repeated, the one before it.

    Example: msclnet rollback
    """
    from pipelines.release.promotion import rollback

    rollback(model=model)


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


@app.callback(invoke_without_command=True)
def release(
    context: typer.Context,
    model: Annotated[
        str, typer.Option(help="A registered model, such as models:/msclnet@champion or models:/msclnet/3.")
    ] = "models:/msclnet@champion",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="[default: results/release/NAME-VERSION.zip]")
    ] = None,
    publish: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Copy it there as well: a folder, s3://, gs://, ssh:// ...; a folder ends with /.",
        ),
    ] = None,
) -> None:
    """Write a registered model as one file: weights, graphs, model card, components, lineage, golden images.

    It is verified before it is kept, and its card becomes the version's description in MLflow. msclnet search --model
    takes it.

    Example: msclnet release --model models:/msclnet@champion --publish s3://models/
    """
    if context.invoked_subcommand:
        return
    from pipelines.release.package import release
    from pipelines.settings import project_root

    print(release(project_root(), model, out=out, publish=publish))


@app.command()
def verify(file: Annotated[Path, typer.Argument(help="What msclnet release wrote.")]) -> None:
    """Check a release here: digests, and the golden images with each back end that is installed.

    Example: msclnet release verify msclnet-3.zip
    """
    from pipelines.release.package import verify

    verify(file)
    print(f"{file}: every file is whole, and each back end computes the golden vectors")
