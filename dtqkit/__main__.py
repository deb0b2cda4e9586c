"""`python -m dtqkit`, and the `dtqkit` command."""

from __future__ import annotations

import os
import sys

from dtqkit.model.errors import (
    AppError,
    DtqError,
    InvalidOption,
    InvalidPayload,
    InvalidQuery,
    SettingsError,
    StoreUnavailable,
    TaskDefinitionError,
    UnknownTask,
)
from dtqkit.model.pause_errors import InvalidPause, NotPaused
from dtqkit.model.schedule_errors import InvalidSchedule, ScheduleNotFound
from dtqkit.model.settings import Settings, variables
from dtqkit.support.importing import importing
from dtqkit.support.sanitize import escaped

#: Errors in how the command was called: exit status 2. All others are failures: 1.
WRONG_USE = (
    *(AppError, InvalidOption, InvalidPayload, InvalidQuery, InvalidSchedule, ScheduleNotFound, SettingsError),
    *(InvalidPause, NotPaused, TaskDefinitionError, UnknownTask),
)


def main() -> None:
    """Run the command line; exit status 0 done, 1 failed, 2 wrong use. An error is one message, never a traceback."""
    try:
        with importing():
            from typer import Abort, TyperException

            from dtqkit.cli import command_line, usage_error
            from dtqkit.cli.completion import find_shell
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit(f"dtqkit: the command line needs {error.name}: pip install 'dtqkit[cli]'")
    try:
        # Not standalone, so that wrong use raises and is printed like every other error.
        find_shell(sys.argv[1:])
        sys.exit(command_line(prog_name="dtqkit", standalone_mode=False))
    except (Abort, KeyboardInterrupt):
        sys.exit(130)  # as of a program that SIGINT has ended
    except TyperException as error:
        if text := usage_error(error):
            _print_error(text)
        sys.exit(error.exit_code)
    except MemoryError:
        _print_error("memory ran out")
        sys.exit(1)
    except DtqError as error:
        _print_error(str(error))
        if hint := _hint(error):
            _print_error(hint)
        sys.exit(2 if isinstance(error, WRONG_USE) else 1)


def _print_error(text: str) -> None:
    text = escaped(text) if sys.stderr.isatty() else text
    print(f"dtqkit: {text}", file=sys.stderr)  # noqa: T201


def _hint(error: DtqError) -> str:
    """What to do when a store at its default address does not answer and no address was set."""
    if isinstance(error, StoreUnavailable):
        defaults = Settings()
        for field in ("atlas_uri", "redis_url"):
            names = variables(field)
            if f" at {getattr(defaults, field)}: " in str(error) and not any(os.environ.get(name) for name in names):
                return (
                    f"{names[0]} is not set, so the default address was used; "
                    "`dtqkit up --ready-file FILE` starts a Redis and a MongoDB and writes their addresses to FILE"
                )
    return ""


if __name__ == "__main__":
    main()
