"""The command line: the only place that wires everything. One module per command or small group of commands."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Annotated, Any, Final

import typer
import typer.core

from dtqkit import __version__
from dtqkit.cli import demo, jobs, many, pause, schedules, server, submit, up, worker
from dtqkit.model.errors import MissingExtra

#: Commands whose modules import numpy and pandas: loaded on use, since workers import this package too.
LATE: Final = ("plan", "simulate")


class Commands(typer.core.TyperGroup):
    """All commands; a late one is imported on first use."""

    def list_commands(self, ctx: Any) -> list[str]:
        late = LATE if importlib.util.find_spec("simpy") else ()
        return [*super().list_commands(ctx), *late]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in LATE:
            return super().get_command(ctx, cmd_name)
        try:
            module = importlib.import_module(f"dtqkit.cli.{cmd_name}")
        except ModuleNotFoundError as error:
            if error.name is None or error.name.startswith("dtqkit"):
                raise
            raise MissingExtra(f"dtqkit {cmd_name}", error.name, "capacity") from None
        alone = typer.Typer(add_completion=False, rich_markup_mode=None)
        alone.command(cmd_name)(getattr(module, cmd_name))
        return typer.main.get_command(alone)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,  # its help shows a flag as an option that takes a bool, and drops "[default: …]"
    pretty_exceptions_enable=False,  # dtqkit.__main__ prints an error in one line
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dtqkit {__version__}")
        raise typer.Exit


def usage_error(error: typer.TyperException) -> str:
    """One line: the error and which --help to read; "" when click has already printed the help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(error.format_message())
        return ""
    text = " ".join(error.format_message().split("\n")).rstrip(" .")
    context = getattr(error, "ctx", None)
    return f"{text}; see {context.command_path} --help" if text and context is not None else text


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """A distributed task queue: durable jobs on Redis and MongoDB."""


# In the order of `dtqkit --help`.
for command in (
    demo.demo,
    up.up,
    server.server,
    worker.worker,
    submit.submit,
    jobs.jobs,
    jobs.job,
    many.cancel,
    jobs.requeue,
    many.update,
    many.delete,
    pause.pause,
    pause.resume,
    pause.pauses,
):
    app.command()(command)

app.add_typer(schedules.app, name="schedules")
