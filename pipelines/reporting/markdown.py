"""A report as Markdown; its pictures are files beside it."""

from collections.abc import Sequence

from pipelines.reporting.document import Block, Heading, Items, Paragraph, Picture, Section, Table


def markdown(title: str, introduction: str, sections: Sequence[Section]) -> str:
    """The whole text."""
    parts = [f"# {title}", introduction]
    for section in sections:
        parts += [f"## {section.title}", *(_block(block) for block in section.blocks)]
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> str:
    match block:
        case Heading():
            return f"### {block.text}"
        case Paragraph():
            return f"> {block.text}" if block.warning else _plain(block.text)
        case Items():
            return "\n".join(f"- {_plain(text)}" for text in block.texts)
        case Table():
            return _table(block)
        case Picture():
            return f"![{block.description}]({block.name}.png)\n\n{block.caption}"


def _table(table: Table) -> str:
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
