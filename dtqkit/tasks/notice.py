"""Notices to the author of a program: in the log, or as a Python warning when logging is not set up."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from types import FrameType
from typing import Final

from dtqkit.tasks.origin import is_script

_PACKAGE: Final = str(Path(__file__).parents[1])


def notice(log: logging.Logger, text: str) -> None:
    """Log at WARNING; in a script without logging, a Python warning at the caller's line.

    In a notebook or at a prompt at INFO only: there it is expected, and would clutter the cell.
    """
    if not is_script():
        log.info("%s", text)
    elif _is_read(log):
        log.warning("%s", text)
    else:
        frame = _caller()
        warnings.warn_explicit(text, UserWarning, frame.f_code.co_filename, frame.f_lineno)


def _is_read(log: logging.Logger) -> bool:
    """Whether the user has set up a handler: ours, a NullHandler, discards everything."""
    logger: logging.Logger | None = log
    while logger is not None:
        if any(not isinstance(handler, logging.NullHandler) for handler in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False


def _caller() -> FrameType:
    """The innermost frame that is not of this package."""
    frame = sys._getframe()  # pyright: ignore[reportPrivateUsage]
    while frame.f_code.co_filename.startswith(_PACKAGE) and frame.f_back is not None:
        frame = frame.f_back
    return frame
