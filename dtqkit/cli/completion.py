"""Shell completion: for the shell that is named, else for the one that started this process."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Any, Final, cast

from dtqkit.model.errors import InvalidOption

OPTIONS: Final = ("--show-completion", "--install-completion")
#: With it, typer's options take the name of a shell; without, they take none, and look for it.
_NAMED: Final = "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"


def find_shell(arguments: Sequence[str]) -> None:
    """Before the command line is read. Raises InvalidOption when a shell must be named."""
    if not arguments or arguments[0] not in OPTIONS:
        return
    if len(arguments) > 1:
        os.environ[_NAMED] = "1"
        return
    try:
        cast("Any", importlib.import_module("shellingham")).detect_shell()
    except Exception:  # it is not installed, or no parent process is a shell
        raise InvalidOption(
            f"the shell could not be detected: name it, as in dtqkit {arguments[0]} bash (or zsh, fish, powershell)"
        ) from None
