"""The command `msclnet`: every command of the project under one --help; `python -m pipelines` is the same."""

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def root() -> None:
    """MSCLNet: visible-infrared person re-identification as an orchestrated pipeline."""


def main() -> None:
    """Run the command that the arguments name."""
    app()
