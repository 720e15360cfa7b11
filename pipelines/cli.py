"""The command `msclnet`: every command of the project under one --help; `python -m pipelines` is the same."""

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def root() -> None:
    """MSCLNet: visible-infrared person re-identification as an orchestrated pipeline."""


@app.command()
def preset(name: Annotated[str, typer.Argument(help="a file of presets/, without its ending")]) -> None:
    """Write params.yaml from a preset and print each value that changes, e.g. `msclnet preset sysu-mm01`."""
    from pipelines.stages.presets import write_preset
    from pipelines.stages.stage import report_user_errors

    report_user_errors(lambda: write_preset(name))


def main() -> None:
    """Run the command that the arguments name."""
    app()
