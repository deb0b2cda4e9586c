"""The command line: the only place that wires everything. A module a command, or a small group of them."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Annotated, Any, Final

import typer
import typer.core

from dtqkit import __version__
from dtqkit.cli import demo, jobs, server, submit, up, worker
from dtqkit.model.errors import MissingExtra

#: Commands whose modules carry numpy and pandas: loaded when they are asked for, since workers import this package.
LATE: Final = ("plan", "simulate")


class Commands(typer.core.TyperGroup):
    """All commands, the late ones as if they were registered."""

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
    pretty_exceptions_enable=False,  # an error is told in one line, by dtqkit.__main__
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def told_version(asked: bool) -> None:
    if asked:
        typer.echo(f"dtqkit {__version__}")
        raise typer.Exit


def told_usage(error: typer.TyperException) -> str:
    """One line: what is wrong, and where to read on; nothing when it is the help, which is printed as it is."""
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(error.format_message())
        return ""
    text = " ".join(error.format_message().split("\n")).rstrip(" .")
    context = getattr(error, "ctx", None)
    return f"{text}; see {context.command_path} --help" if text and context is not None else text


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=told_version, is_eager=True, help="Print the version and exit.")
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
    jobs.cancel,
    jobs.requeue,
):
    app.command()(command)
