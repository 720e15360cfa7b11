"""A report as Markdown; its pictures are files beside it.

Writes results/report/index.html and report.md from what was run: `msclnet report`.

The page needs no other file and no network. What was not run is said to be so; nothing is run for the report.
"""

import argparse
import base64
import os
import re
import sys
from collections.abc import Sequence
from html import escape
from itertools import groupby
from pathlib import Path

from msclnet.errors import UserError
from pipelines.experiments.results import RESULTS
from pipelines.orchestration.environment import home, project_root
from pipelines.report.document import Block, Heading, Items, Paragraph, Picture, Section, Table
from pipelines.report.grids import grid_sections
from pipelines.report.published import comparison
from pipelines.report.results import read_own
from pipelines.stages.stage import report_user_errors


def markdown(title: str, introduction: str, sections: Sequence[Section]) -> str:
    """The whole text."""
    parts = [f"# {title}", introduction]
    for section in sections:
        parts += [f"## {section.title}", *(_markdown_block(block) for block in section.blocks)]
    return "\n\n".join(parts) + "\n"


def _markdown_block(block: Block) -> str:
    match block:
        case Heading():
            return f"### {block.text}"
        case Paragraph():
            return f"> {block.text}" if block.warning else _plain(block.text)
        case Items():
            return "\n".join(f"- {_plain(text)}" for text in block.texts)
        case Table():
            return _markdown_table(block)
        case Picture():
            return f"![{block.description}]({block.name}.png)\n\n{block.caption}"


def _markdown_table(table: Table) -> str:
    titles = [f"{column.group} {column.title}".strip() for column in table.columns]
    rules = ["---:" if column.number else "---" for column in table.columns]
    strong = {"paper", "ours"}
    rows = [
        [f"**{_plain(cell)}**" if row.kind in strong and cell else _plain(cell) for cell in row.cells]
        for row in table.rows
    ]
    lines = [f"| {' | '.join(cells)} |" for cells in (titles, rules, *rows)]
    return "\n".join(lines) + f"\n\n{_plain(table.caption)}"


def _plain(text: str) -> str:
    """Text in which nothing but code is Markdown: AGW* is a name, and a bar ends no cell."""
    return text.replace("*", r"\*").replace("|", r"\|")


# A report as one HTML page that needs no other file: style and pictures are inside.

STYLE = """\
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; color: #222;
  background: #fff; max-width: 72rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.8rem; margin: 0 0 .5rem; } h2 { font-size: 1.4rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: 1.1rem; margin: 2rem 0 .4rem; } p, ul { max-width: 48rem; margin: .5rem 0; }
code { font: .88em ui-monospace, "SF Mono", Menlo, Consolas, monospace; background: #f1f3f5; padding: .1em .3em;
  border-radius: 3px; }
.warning { border-left: 4px solid #d39e00; background: #fff8e1; padding: .5rem .8rem; }
.wide { overflow-x: auto; margin: .8rem 0 1.2rem; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
caption { caption-side: bottom; text-align: left; color: #555; padding-top: .4rem; }
th, td { padding: .28rem .6rem; text-align: left; border-bottom: 1px solid #e5e7eb; vertical-align: top; }
td:first-child { white-space: nowrap; }
thead th { border-bottom: 1px solid #888; white-space: nowrap; font-weight: 600; }
th.group { border-bottom: 1px solid #ccc; text-align: center; }
.number { text-align: right; white-space: nowrap; } .number small { display: block; color: #555; font-weight: 400; }
td:last-child { min-width: 12rem; }
tr.paper td { font-weight: 600; background: #f4f6f8; } tr.ours td { background: #e8f3ec; font-weight: 600; }
tr.ours td:last-child, tr.paper td:last-child { font-weight: 400; }
tr.missing td { color: #777; font-style: italic; }
figure { margin: 1rem 0; } figure img { max-width: 100%; height: auto; } figcaption { color: #555; font-size: .88rem; }
@media print { body { max-width: none; padding: 0; } .wide { overflow: visible; } }
"""


def page(title: str, introduction: str, sections: Sequence[Section]) -> str:
    """The whole page."""
    body = [f"<h1>{escape(title)}</h1>", f"<p>{_inline(introduction)}</p>"]
    for number, section in enumerate(sections, start=1):
        body.append(f'<section id="part-{number}"><h2>{escape(section.title)}</h2>')
        body += [_block(block) for block in section.blocks]
        body.append("</section>")
    head = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>\n{STYLE}</style></head><body>"
    )
    return "\n".join([head, *body, "</body></html>", ""])


def _block(block: Block) -> str:
    match block:
        case Heading():
            return f"<h3>{escape(block.text)}</h3>"
        case Paragraph():
            kind = ' class="warning"' if block.warning else ""
            return f"<p{kind}>{_inline(block.text)}</p>"
        case Items():
            return "<ul>" + "".join(f"<li>{_inline(text)}</li>" for text in block.texts) + "</ul>"
        case Table():
            return _table(block)
        case Picture():
            data = base64.b64encode(block.png).decode()
            return (
                f'<figure><img src="data:image/png;base64,{data}" alt="{escape(block.description)}">'
                f"<figcaption>{_inline(block.caption)}</figcaption></figure>"
            )


def _table(table: Table) -> str:
    head = ""
    if any(column.group for column in table.columns):
        groups = [(name, len(list(columns))) for name, columns in groupby(table.columns, lambda c: c.group)]
        cells = (
            f'<th class="group" colspan="{span}">{escape(name)}</th>'
            if name
            else f'<td colspan="{span}"></td>'
            for name, span in groups
        )
        head = f"<tr>{''.join(cells)}</tr>"
    kinds = [' class="number"' if column.number else "" for column in table.columns]
    titles = zip(kinds, table.columns, strict=True)
    head += "<tr>" + "".join(f'<th scope="col"{kind}>{escape(c.title)}</th>' for kind, c in titles) + "</tr>"
    rows = []
    for row in table.rows:
        cells = (f"<td{kind}>{_inline(cell)}</td>" for kind, cell in zip(kinds, row.cells, strict=True))
        rows.append(f'<tr class="{row.kind}">{"".join(cells)}</tr>')
    body = "\n".join(rows)
    caption = f"<caption>{_inline(table.caption)}</caption>"
    return f'<div class="wide"><table>{caption}<thead>{head}</thead><tbody>\n{body}\n</tbody></table></div>'


def _inline(text: str) -> str:
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    # A deviation goes below its mean, or eight such columns would not fit on a page.
    return re.sub(r"^([\d.]+) (± [\d.]+)$", r"\1 <small>\2</small>", text)


FOLDER = Path("results/report")
TITLE = "MSCLNet: an open implementation, and what it measured"
INTRODUCTION = (
    "Visible-infrared person re-identification by Modality Synergy, Modality Complement and Cascaded Aggregation "
    "(Zhang et al., ECCV 2022). Written by `msclnet report` from the results in this folder."
)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    description = f"Writes {FOLDER}/index.html and report.md from the results in this project."
    parser = argparse.ArgumentParser(prog="msclnet report", description=description)
    parser.add_argument(
        "--mlflow-run",
        metavar="ID",
        help="log the report to this run; otherwise to those of the grids it shows, as far as MLflow knows them",
    )
    chosen = parser.parse_args(arguments)
    report_user_errors(lambda: report(project_root(), mlflow_run=chosen.mlflow_run))


def report(root: Path, *, mlflow_run: str | None = None) -> None:
    """Write the report of a project.

    Args:
        root: The project.
        mlflow_run: Id of the MLflow run among whose artifacts it is put; None for those of the grids.

    Raises:
        UserError: A file of results is damaged, or MLflow has no such run.
    """
    own = read_own(root)
    sections = [comparison(own), *grid_sections(root)]
    write(root / FOLDER, sections)
    if not own.reports:
        print("nothing was evaluated in this folder yet: run `dvc repro` and write the report again")
    print(f"written: {FOLDER / 'index.html'}, {FOLDER / 'report.md'}")
    log_report(root, mlflow_run=mlflow_run)


def log_report(root: Path, *, mlflow_run: str | None) -> None:
    """Put the written report among the artifacts of MLflow runs; see `report`."""
    from msclnet.tracking.group import RunGroup

    if mlflow_run:
        groups = [RunGroup.attach(home=home(root), run_id=mlflow_run)]
    else:
        names = {file.stem for file in (root / RESULTS).glob("*.jsonl")}
        try:
            groups = RunGroup.known(home=home(root), names=names) if names else []
        except UserError as error:  # nobody asked for MLflow, and the report is written
            print(f"not logged: {error}", file=sys.stderr)
            return
    for group in groups:
        group.log_artifact(root / FOLDER, "report")
    if groups:
        print(f"logged to {len(groups)} MLflow run{'s' * (len(groups) > 1)}, among the artifacts as `report`")


def write(folder: Path, sections: Sequence[Section]) -> None:
    """Write index.html, report.md and the pictures of the latter; each file appears whole or not at all."""
    files: dict[str, bytes] = {
        f"{block.name}.png": block.png
        for section in sections
        for block in section.blocks
        if isinstance(block, Picture)
    }
    files["report.md"] = markdown(TITLE, INTRODUCTION, sections).encode()
    files["index.html"] = page(TITLE, INTRODUCTION, sections).encode()
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        unfinished = folder / f".{name}.{os.getpid()}"
        unfinished.write_bytes(content)
        unfinished.replace(folder / name)


if __name__ == "__main__":
    main()
