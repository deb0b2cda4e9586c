"""Imports of many modules without garbage collections."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def importing() -> Generator[None]:
    """Modules make many objects and hardly any garbage: without collections, a command starts a tenth sooner.

    What exists at the end is left alone by later collections too. For commands only, which own their process.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
