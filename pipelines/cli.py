"""The command `msclnet`: every command of the project under one --help; `python -m pipelines` is the same.

Exit status: 0; 1 after a crash; 2 after a user's mistake, with lines that start with `error: `; 130 after Ctrl-C; 143
after SIGTERM.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from msclnet.errors import UserError
from pipelines.console import printable
from pipelines.gallery.commands import app as gallery
from pipelines.release import commands as release

Modality = Literal["visible", "infrared"]

_SEVERAL = ("--seeds", "--rows", "--camera")  # followed by one value or more


class Commands(TyperGroup):
    """Commands whose errors end in a message and an exit status."""

    def invoke(self, ctx: typer.Context) -> Any:
        """Run the chosen command."""
        from pipelines.orchestration.stage_process import StageFailedError, sigterm_raises
        from pipelines.settings import prepare_process
        from pipelines.stages.stage import user_errors_reported

        prepare_process()
        try:
            with sigterm_raises(), user_errors_reported():
                return super().invoke(ctx)
        except StageFailedError as error:
            print(printable(error), file=sys.stderr)
            raise SystemExit(1) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(gallery, name="gallery")

Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="A value of params.yaml for this run alone; may be repeated."
    ),
]
Name = Annotated[
    str | None, typer.Option(help="The experiment's name; of a grid: what the names begin with.")
]


@app.callback()
def root() -> None:
    """MSCLNet: visible-infrared person re-identification as an orchestrated pipeline.

    Runs are recorded by the Prefect server where one is running (msclnet up).
    """


@app.command()
def train(
    preset: Annotated[
        str | None, typer.Option(help="A file of presets/ in the place of params.yaml.")
    ] = None,
    set_: Set = None,
    until: Annotated[str | None, typer.Option(metavar="STAGE", help="The last stage. [default: all]")] = None,
    name: Name = None,
) -> None:
    """Run the pipeline, from the data set to the figures.

    With a preset or --set it becomes a DVC experiment (dvc exp show) and leaves the working tree alone; otherwise it
    works in this tree, as dvc repro does.

    Example: msclnet train --preset smoke --set train.epochs=3 --name shorter
    """
    from pipelines.orchestration.experiments import Experiment, parse_settings

    overrides = parse_settings(set_ or [])
    given = {"preset": preset, "overrides": overrides, "until": until, "name": name}
    _run_stages("train", given, Experiment(overrides, preset, until, name))


@app.command()
def evaluate(set_: Set = None, name: Name = None) -> None:
    """Evaluate the trained model again and draw its figures.

    Example: msclnet evaluate --set evaluate.trials=5
    """
    from pipelines.orchestration.experiments import Experiment, parse_settings

    overrides = parse_settings(set_ or [])
    given = {"overrides": overrides, "name": name}
    _run_stages("evaluate", given, Experiment(overrides, name=name), first_stage="evaluate")


@app.command()
def grid(
    grid: Annotated[str, typer.Argument(metavar="GRID", help="A file of experiments/ without its ending.")],
    seeds: Annotated[list[int] | None, typer.Option(metavar="N ...", help="[default: the grid's]")] = None,
    rows: Annotated[list[str] | None, typer.Option(metavar="ROW ...", help="[default: all]")] = None,
    set_: Set = None,
    name: Name = None,
    parallel: Annotated[int, typer.Option(metavar="N", help="Cells to train at a time.")] = 1,
    preset: Annotated[str | None, typer.Option(help="A file of presets/ in the place of the grid's.")] = None,
    identical: Annotated[
        bool, typer.Option("--identical", help="Run rows that are identical by construction as well.")
    ] = False,
) -> None:
    """Run a grid of experiments/: each row with each seed. Finished cells are not run again.

    Example: msclnet grid ablation --seeds 0 1 2 --rows B whole --parallel 2
    """
    from pipelines.orchestration.experiments import parse_settings

    chosen: dict[str, Any] = {"overrides": parse_settings(set_ or []), "name": name, "preset": preset}
    chosen |= {"seeds": seeds or None, "rows": rows or None}
    how = {"parallel": parallel, "identical": identical}
    if not _run_flow("grid", {"grid": grid, **chosen, **how}):
        _run_grid(grid, chosen, how)


@app.command()
def preset(name: Annotated[str, typer.Argument(help="A file of presets/ without its ending.")]) -> None:
    """Write params.yaml from a preset and print each value that changes.

    Example: msclnet preset sysu-mm01
    """
    from pipelines.stages.presets import write_preset

    write_preset(name)


@app.command()
def search(
    gallery: Annotated[
        str,
        typer.Argument(metavar="GALLERY", help="A gallery (msclnet gallery list), or a folder of images."),
    ],
    query: Annotated[list[Path], typer.Argument(metavar="QUERY...", help="Image files of single people.")],
    query_modality: Annotated[
        Modality | None,
        typer.Option(
            help="[default: of a gallery's search infrared where the three channels are equal; of a folder's infrared]"
        ),
    ] = None,
    modality: Annotated[
        Literal["visible", "infrared", "any"] | None,
        typer.Option(
            help="Of the images to search. [default: the other one than the query's; a folder's: visible]"
        ),
    ] = None,
    top: Annotated[int, typer.Option(metavar="N", help="Images to show.")] = 10,
    camera: Annotated[list[str] | None, typer.Option(metavar="CAMERA ...", help="[default: all]")] = None,
    after: Annotated[str | None, typer.Option(metavar="TIME", help="Such as 2026-11-01T08:30.")] = None,
    before: Annotated[str | None, typer.Option(metavar="TIME", help="Such as 2026-11-02.")] = None,
    where: Annotated[
        str | None, typer.Option(metavar="CONDITION", help="In SQL, on any column of the gallery.")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Do not use the gallery's index.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON and draw nothing.")] = False,
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="For the pictures, and a folder's ranking.json.")
    ] = Path("results/search"),
    model: Annotated[
        str | None,
        typer.Option(
            help="For a folder of images: a registered model such as models:/msclnet@champion, a folder with "
            "model.safetensors and network.json, or a released file. "
            "[default: the champion where there is one, else results/train]"
        ),
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="HxW", help="Image size of a --model folder that does not name it.")
    ] = None,
) -> None:
    """Find the images of a gallery, or of a folder, that are most similar to each query.

    A folder's images are embedded for this once, and all of them count as one modality. Give images of single people,
    cut out as the training images are: upright, head to foot.

    Example: msclnet search yard query.jpg --camera c1 c4 --after 2026-11-01 --top 20
    """
    from pipelines import search
    from pipelines.gallery.search import search_gallery
    from pipelines.gallery.work import is_named_gallery

    if is_named_gallery(gallery):
        search_gallery(
            gallery,
            query,
            query_modality=query_modality,
            modality=modality,
            cameras=camera or (),
            after=after,
            before=before,
            where=where,
            top=top,
            exact=exact,
            as_json=json,
            out=out,
        )
        return
    if modality == "any":
        raise UserError(
            "--modality any: the images of a folder count as one modality; give visible or infrared"
        )
    if camera or after or before or where or json:
        raise UserError(
            f"{gallery} is no gallery: --camera, --after, --before, --where and --json need one; "
            "`msclnet gallery add` makes it"
        )
    search.search(
        query,
        Path(gallery),
        query_modality=query_modality or "infrared",
        gallery_modality=modality or "visible",
        top=top,
        out=out,
        model=model,
        size=size,
    )


@app.command()
def serve(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A gallery: its name, folder or address.")],
    host: Annotated[
        str, typer.Option(help="Address to listen on; one of other machines needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8300,
    token: Annotated[
        str | None, typer.Option(help="What requests have to carry. [default: MSCLNET_TOKEN]")
    ] = None,
) -> None:
    """Serve the page that searches a gallery, and its API (/docs), until Ctrl-C.

    Example: msclnet serve yard
    """
    from pipelines.gallery import server
    from pipelines.settings import read_settings

    server.serve(name, host=host, port=port, token=token or read_settings().token)


@app.command()
def report(
    mlflow_run: Annotated[
        str | None, typer.Option(metavar="ID", help="Log to this MLflow run. [default: those of the grids]")
    ] = None,
) -> None:
    """Write results/report/index.html and report.md from what was run.

    Example: msclnet report
    """
    from pipelines.report import build
    from pipelines.settings import project_root

    build.report(project_root(), mlflow_run=mlflow_run)


@app.command()
def resend(
    history: Annotated[Path, typer.Argument(help="The training's history.csv.")] = Path(
        "results/train/history.csv"
    ),
    run: Annotated[Path, typer.Argument(help="The training's run.json.")] = Path("results/train/run.json"),
    status: Annotated[
        Literal["FINISHED", "FAILED", "KILLED"], typer.Option(help="For a run that still counts as running.")
    ] = "FINISHED",
) -> None:
    """Send the metrics that an MLflow server missed.

    Example: msclnet resend results/train/history.csv results/train/run.json
    """
    from msclnet.tracking.resend import read_reference, resend
    from pipelines.settings import home

    sent = resend(history, read_reference(run), home=home(), status=status)
    print(f"run {sent.run_id}: {sent.sent} values sent, {sent.present} were there")


@app.command()
def up() -> None:
    """Start the MLflow UI, the Prefect server and a worker with the deployments, until Ctrl-C.

    Example: PREFECT_PORT=4300 msclnet up
    """
    from pipelines import up

    raise typer.Exit(up.main())


for command in (release.export, release.promote, release.rollback, release.restore):
    app.command()(command)
app.add_typer(release.app, name="release")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the arguments (default: the process's) name, and end with its exit status."""
    app(_one_by_one(sys.argv[1:] if arguments is None else arguments), prog_name="msclnet")


def _one_by_one(arguments: Sequence[str]) -> list[str]:
    """`--seeds 0 1 2` as `--seeds 0 --seeds 1 --seeds 2`."""
    found: list[str] = []
    option = ""
    for argument in arguments:
        if argument.startswith("-"):
            option = argument if argument in _SEVERAL else ""
            found.append(argument)
        else:
            repeated = option and found[-1] != option
            found += [option, argument] if repeated else [argument]
    return found


def _run_stages(flow: str, given: dict[str, Any], experiment: Any, first_stage: str | None = None) -> None:
    if _run_flow(flow, given):
        return
    from pipelines.orchestration.runs import run_pipeline
    from pipelines.orchestration.summary import metric_rows, text_table
    from pipelines.settings import project_root

    result = run_pipeline(project_root(), experiment, first_stage=first_stage, log=_print)
    seconds = {stage: f"{taken:.1f}" for stage, taken in result.seconds.items()}
    print(
        text_table(
            [{"stage": s, "status": status, "seconds": seconds[s]} for s, status in result.stages.items()]
        )
    )
    if rows := metric_rows(result.metrics):
        print(text_table(rows))


def _run_grid(grid: str, chosen: dict[str, Any], how: dict[str, Any]) -> None:
    from pipelines.experiments.grid import load_grid
    from pipelines.experiments.plan import make_plan
    from pipelines.experiments.run import ending, run_grid
    from pipelines.orchestration.summary import text_table
    from pipelines.settings import project_root

    project = project_root()
    plan = make_plan(project, load_grid(project, grid), **chosen)
    conclusion = run_grid(project, plan, log=_print, on_end=lambda outcome: _print(ending(outcome)), **how)
    print(text_table(conclusion.rows))
    for path in conclusion.written:
        print(f"written: {path}")
    if conclusion.warning:
        print(f"warning: {conclusion.warning}", file=sys.stderr)
    if conclusion.failure and conclusion.repairable:
        raise UserError(conclusion.failure)
    if conclusion.failure:
        print(printable(conclusion.failure), file=sys.stderr)
        raise typer.Exit(1)


def _run_flow(name: str, given: dict[str, Any]) -> bool:
    """Run a flow where there is a Prefect server to record it; False without one."""
    from pipelines.settings import project_root
    from pipelines.up import server_address

    address = server_address()
    if address is None:
        return False
    from pipelines.flows import run_on_server

    os.chdir(project_root())
    state = run_on_server(address, name, given)
    message = printable(state.message or "")
    if state.is_completed():
        return True
    if message.startswith("error: "):
        raise UserError(message.removeprefix("error: "))
    print(f"the run ended as {state.name}: {message}", file=sys.stderr)
    raise typer.Exit(1)


def _print(line: str) -> None:
    print(printable(line), flush=True)
