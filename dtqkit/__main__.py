"""`python -m dtqkit`, and the `dtqkit` command."""

from __future__ import annotations

import sys

from dtqkit.errors import (
    AppError,
    DtqError,
    InvalidPayload,
    InvalidQuery,
    SettingsError,
    TaskDefinitionError,
    UnknownTask,
)

#: Errors of whoever typed the command: exit status 2. Every other one is a failure: 1.
WRONG_USE = (AppError, InvalidPayload, InvalidQuery, SettingsError, TaskDefinitionError, UnknownTask)


def main() -> None:
    """Run the command line; exit status 0 done, 1 failed, 2 wrong use. An error is one message, never a traceback."""
    try:
        from dtqkit.cli import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit(f"dtqkit: the command line needs {error.name}: pip install 'dtqkit[cli]'")
    try:
        app(prog_name="dtqkit")
    except DtqError as error:
        print(f"dtqkit: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2 if isinstance(error, WRONG_USE) else 1)


if __name__ == "__main__":
    main()
