"""Writes results/report/index.html and report.md from the results in the project; nothing is run for the report.

The template report.md has the words, the modules of this package its tables and pictures. The page is the same text as
HTML with its pictures inside: it needs no other file and no network.
"""

import base64
import re
import sys
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from matplotlib.figure import Figure

from msclnet.errors import UserError
from msclnet.figures.distances import DEFINITION
from msclnet.figures.style import png_bytes
from pipelines.experiments.grid import grid_names
from pipelines.experiments.results import RESULTS, records_file
from pipelines.report import figure5, grid_figures, grids, published
from pipelines.report.results import MISSING, OURS, PAPER, US, GridView, Own, read_own, read_view
from pipelines.settings import home

FOLDER = Path("results/report")
OWN_SECTION = ("ablation", "ablation-screening", "sensitivity")


def report(root: Path, *, mlflow_run: str | None = None) -> None:
    """Write the report of a project and log it to an MLflow run; None: to those of the grids."""
    own, views = read_own(root), {name: read_view(root, name) for name in grid_names(root)}
    write(root, own, views if set(OWN_SECTION) <= set(views) else {})
    if not own.reports:
        print("nothing was evaluated in this folder yet: run `dvc repro` and write the report again")
    print(f"written: {FOLDER / 'index.html'}, {FOLDER / 'report.md'}")
    log_report(root, mlflow_run=mlflow_run)


def log_report(root: Path, *, mlflow_run: str | None) -> None:
    """Log the written report to MLflow; see `report`."""
    from msclnet.tracking.run import Tracker, grid_runs

    if mlflow_run:
        groups = [Tracker.attach(mlflow_run, home=home(root))]
    else:
        try:
            groups = grid_runs(home=home(root), names=grid_names(root)) if grid_names(root) else []
        except UserError as error:  # the user did not ask for MLflow, and the report is written
            print(f"not logged: {error}", file=sys.stderr)
            return
    for group in groups:
        group.log_artifact(root / FOLDER, "report")
        group.finish("FINISHED")
    if groups:
        print(f"logged to {len(groups)} MLflow run{'s' * (len(groups) > 1)}, artifact folder `report`")


def write(root: Path, own: Own, views: dict[str, GridView]) -> None:
    """Write index.html, report.md and the pictures of both."""
    folder = root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)

    def picture(name: str, figure: Figure) -> str:
        (folder / f"{name}.png").write_bytes(png_bytes(figure))
        return f"{name}.png"

    unknown = [records_file(path.stem) for path in sorted((root / RESULTS).glob("*.jsonl"))]
    environment = Environment(
        loader=PackageLoader("pipelines.report"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    text = environment.get_template("report.md").render(
        own=own,
        views=views,
        others=[view for name, view in views.items() if name not in OWN_SECTION],
        with_curves=[
            view
            for name, view in views.items()
            if name not in ("sensitivity", "readings") and grid_figures.shown_rows(view)
        ],
        pair=figure5.find_pair(root, list(views.values())),
        unknown=[file for file in unknown if file.stem not in views],
        table=markdown_table,
        picture=picture,
        definition=DEFINITION,
        published=published,
        grids=grids,
        grid_figures=grid_figures,
        figure5=figure5,
    )
    (folder / "report.md").write_text(text, encoding="utf-8")
    page = environment.get_template("page.html").render(body=html(text, folder))
    (folder / "index.html").write_text(page, encoding="utf-8")


def markdown_table(frame: pd.DataFrame) -> str:
    """A table as Markdown; rows of the paper and of this project are bold, what was not run is italic."""
    marks = {PAPER: "**", OURS: "**", MISSING: "*"}
    # AGW* is a name, and a bar does not end a cell.
    cells = frame.map(lambda cell: re.sub(r"([*|])", r"\\\1", cell))
    for kind, mark in marks.items():
        rows = cells.index == kind
        cells[rows] = cells[rows].map(lambda cell, mark=mark: f"{mark}{cell}{mark}" if cell else cell)
    numbers = frame.map(lambda cell: bool(re.match(r"[+-]?[\d.,]+(?: |$)", cell))).any()
    align = ["right" if number else "left" for number in numbers]
    return cells.to_markdown(index=False, colalign=align, disable_numparse=True)


def html(text: str, folder: Path) -> str:
    """The report's Markdown as HTML, with its pictures inside."""
    page = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    page = re.sub(rf"<tr>(\n<td[^>]*><strong>{US})", r'<tr class="ours">\1', page)
    # The deviation goes below its mean: eight such columns do not fit on a page otherwise.
    page = re.sub(r"(?<=\d) (± [\d.]+)(?=<)", r" <small>\1</small>", page)

    def inside(match: re.Match[str]) -> str:
        return f'src="data:image/png;base64,{base64.b64encode((folder / match[1]).read_bytes()).decode()}"'

    return re.sub(r'src="([^"/]+\.png)"', inside, page)
