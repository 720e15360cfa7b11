"""`python -m pipelines.flows`: runs from the command line, through a Prefect server where there is one."""

import argparse
import base64
import http.client
import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

from msclnet.errors import UserError
from msclnet.tracking.masking import mask
from pipelines.console import mask_tracebacks, tellable
from pipelines.orchestration.overrides import parse_settings
from pipelines.orchestration.report import metric_rows, stage_rows, text_table
from pipelines.orchestration.runs import RunOptions, RunResult, run_experiment, run_workspace
from pipelines.orchestration.stage_process import StageFailedError
from pipelines.settings import prepare_process, project_root


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line says.

    Args:
        arguments: without the program's name; default: those of the process.

    Returns:
        Exit status: 0; 1 after a crash; 2 after a mistake of the user; 130 or 143 after Ctrl-C or SIGTERM.
    """
    chosen = _parser().parse_args(arguments)
    mask_tracebacks()
    prepare_process()
    try:
        overrides = parse_settings(chosen.set)
        address = server_address()
        if address is None:
            return _run_plainly(chosen, overrides)
        return _run_through(address, chosen, overrides)
    except UserError as error:
        print(f"error: {tellable(error)}", file=sys.stderr)
        return 2
    except StageFailedError as error:
        print(tellable(error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the next run goes on from the last checkpoint", file=sys.stderr)
        return 128 + signal.SIGINT


def server_address() -> str | None:
    """The API address of the Prefect server to use, or None to run without one.

    PREFECT_API_URL counts where it is set; otherwise a server that answers on this machine's PREFECT_PORT
    (4200), which is what `make up` starts.

    Raises:
        UserError: PREFECT_API_URL is set and does not answer.
    """
    given = os.environ.get("PREFECT_API_URL")
    address = given or f"http://127.0.0.1:{os.environ.get('PREFECT_PORT') or 4200}/api"
    if answers(f"{address}/health"):
        return address
    if given:
        raise UserError(
            f"PREFECT_API_URL={mask(given)} does not answer: start it (make up), or unset the variable"
        )
    return None


def answers(url: str, *, seconds: float = 3.0, login: str = "") -> bool:
    """Whether a GET of the address succeeds; addresses of this machine are asked without a proxy.

    Args:
        url: the address.
        seconds: how long to wait.
        login: `user:password`. Without one a server that asks for it counts as answering.
    """
    local = url.split("/")[2].rsplit(":", 1)[0] in ("127.0.0.1", "localhost", "[::1]")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({} if local else None))
    try:
        request = urllib.request.Request(url)
        if login:
            request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
        with opener.open(request, timeout=seconds) as response:
            return 200 <= response.status < 300
    except urllib.error.HTTPError as error:
        return not login and error.code in (401, 403)  # it is there, and the flow itself has the key
    except (OSError, ValueError, http.client.HTTPException):  # the last for an address that is none
        return False


def _run_plainly(chosen: argparse.Namespace, overrides: dict[str, Any]) -> int:
    from pipelines import flows, grid_command, regdb_command

    root, seconds = project_root(), dict[str, float]()
    if chosen.command == "regdb":
        given = regdb_command.parameters(chosen, overrides)
        return regdb_command.run_plainly(root, given, validate=flows.check_params, retries=flows.RETRIES)
    if chosen.command == "grid":
        given = grid_command.parameters(chosen, overrides)
        return grid_command.run_plainly(root, given, validate=flows.check_params, retries=flows.RETRIES)
    options = RunOptions(on_line=_say, retries=flows.RETRIES, seconds=seconds)
    since = flows.EVALUATION if chosen.command == "evaluate" else None
    preset, until = getattr(chosen, "preset", None), getattr(chosen, "until", None)
    result: RunResult
    if preset or overrides:
        result = run_experiment(
            root,
            preset=preset,
            overrides=overrides,
            until=until,
            name=chosen.name,
            validate=flows.check_params,
            options=options,
        )
    else:
        _no_name(chosen)
        result = run_workspace(root, since=since, until=until, validate=flows.check_params, options=options)
    print(text_table(stage_rows(result.stages, seconds)))
    if rows := metric_rows(result.metrics):
        print(text_table(rows))
    return 0


def _run_through(address: str, chosen: argparse.Namespace, overrides: dict[str, Any]) -> int:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from pipelines import flows, grid_command, grid_flow, regdb_command, regdb_flow

    root = project_root()
    flows_by_name = {
        "train": flows.train,
        "evaluate": flows.evaluate,
        "regdb": regdb_flow.regdb,
        "grid": grid_flow.grid,
    }
    run: Callable[..., Any] = flows_by_name[chosen.command]
    given: dict[str, Any] = {"overrides": overrides or None, "name": chosen.name}
    if chosen.command == "train":
        given |= {"preset": chosen.preset, "until": chosen.until}
    if chosen.command == "regdb":
        given = regdb_command.parameters(chosen, overrides)
    elif chosen.command == "grid":
        given = grid_command.parameters(chosen, overrides)
    elif not (overrides or given.get("preset")):
        _no_name(chosen)
    os.chdir(root)
    with temporary_settings({PREFECT_API_URL: address}):
        state = run(**given, return_state=True)
    if state.is_completed():
        return 0
    message = state.message or ""
    if message.startswith("error: "):
        raise UserError(message.removeprefix("error: "))
    print(f"the run ended as {state.name}: {tellable(message)}", file=sys.stderr)
    return 1


def _no_name(chosen: argparse.Namespace) -> None:
    if chosen.name:
        raise UserError("--name names an experiment: give a --preset or --set KEY=VALUE as well")


def _say(line: str) -> None:
    print(tellable(line), flush=True)


def _parser() -> argparse.ArgumentParser:
    from pipelines import grid_command, regdb_command

    parser = argparse.ArgumentParser(
        prog="python -m pipelines.flows",
        description="Run the pipeline, through the Prefect server where one is running (make up).",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="the pipeline, from the data set to the figures")
    train.add_argument("--preset", metavar="NAME", help="a file of presets/ in the place of params.yaml")
    train.add_argument("--until", metavar="STAGE", help="the last stage; default: all")
    evaluate = commands.add_parser("evaluate", help="evaluation and figures of the trained model anew")
    regdb = commands.add_parser("regdb", help="a model for each of RegDB's ten splits, and their mean")
    regdb_command.add_arguments(regdb)
    grid = commands.add_parser("grid", help="a grid of experiments/: each row with each seed")
    grid_command.add_arguments(grid)
    for command in (train, evaluate, regdb, grid):
        command.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="a value of params.yaml for this run alone, e.g. train.epochs=3; as often as needed",
        )
        command.add_argument(
            "--name", help="the experiment's name; of regdb and grid: what the names begin with"
        )
    return parser
