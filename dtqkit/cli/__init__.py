"""The command line. One module per command or small group of commands."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

import typer
import typer.core

from dtqkit import __version__
from dtqkit.model.errors import MissingExtra
from dtqkit.support.importing import importing

#: The module of each command, in the order of `dtqkit --help`. It is imported on first use: a worker loads no other.
MODULES: Final = {
    "demo": "demo",
    "up": "up",
    "server": "server",
    "worker": "worker",
    "submit": "submit",
    "jobs": "jobs",
    "job": "jobs",
    "cancel": "many",
    "requeue": "jobs",
    "update": "many",
    "delete": "many",
    "pause": "pause",
    "resume": "pause",
    "pauses": "pause",
    "schedules": "schedules",
    "plan": "plan",
    "simulate": "simulate",
}
#: Those that need the extra `capacity`.
_CAPACITY: Final = ("plan", "simulate")


#: What click says of an APP where none is expected.
_EXTRA: Final = re.compile(r"unexpected extra argument\S* \(([\w.]+:[\w.]+)")


class _OnUse(Mapping[str, Any]):
    """The commands by name."""

    def __iter__(self) -> Iterator[str]:
        capacity = importlib.util.find_spec("simpy") is not None
        return (name for name in MODULES if capacity or name not in _CAPACITY)

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __getitem__(self, name: str) -> Any:
        module_name = MODULES[name]
        try:
            with importing():
                module = importlib.import_module(f"dtqkit.cli.{module_name}")
        except ModuleNotFoundError as error:
            if name not in _CAPACITY or error.name is None or error.name.startswith("dtqkit"):
                raise
            raise MissingExtra(f"dtqkit {name}", error.name, "capacity") from None
        alone = typer.Typer(add_completion=False, rich_markup_mode=None)
        if (group := getattr(module, "app", None)) is not None:
            alone.add_typer(group, name=name)
        else:
            alone.command(name)(getattr(module, name))
        found: Any = typer.main.get_command(alone)
        return found.commands[name] if group is not None else found


class Commands(typer.core.TyperGroup):
    """All commands of `MODULES`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.commands: Any = _OnUse()

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - as Typer calls it
        return list(self.commands)


#: Not `app`: that is a module of this package.
command_line = typer.Typer(
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
    if (
        context is not None
        and (extra := _EXTRA.search(text))
        and any(p.opts == ["--app"] for p in context.command.params)
    ):
        text += f"; did you mean --app {extra[1]}?"
    return f"{text}; see {context.command_path} --help" if text and context is not None else text


@command_line.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """A distributed task queue: durable jobs on Redis and MongoDB."""
