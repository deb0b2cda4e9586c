"""The event loop of a process that only runs a loop: a worker or a server."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any, Final

#: Objects allocated between two garbage collections.
GC_THRESHOLD: Final = 20_000


def run_process(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` to its end: on uvloop where that is installed, and with few garbage collections.

    Imported objects stay, and reference counting frees what a job or a request allocates: cycles are rare, and a
    full collection pauses a server with a thousand clients for half a second.
    """
    try:
        from uvloop import new_event_loop
    except ModuleNotFoundError:
        new_event_loop = None
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 20)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(work)
