"""A server that writes down what its loop was held up by: `python -m tests.web.measured FILE …`, as `dtqkit server`."""

from __future__ import annotations

import asyncio
import asyncio.events
import sys
import time
from pathlib import Path
from typing import Any

#: What a callback may take of the processor, in seconds.
MOST_S = 0.05


def measure(file: Path) -> None:
    """Add a line to `file` for each callback of any loop that takes longer. CPU time: others may use the machine."""
    run = asyncio.events.Handle._run

    def measured(handle: asyncio.Handle) -> None:
        started = time.thread_time()
        run(handle)
        if (took := time.thread_time() - started) > MOST_S:
            with file.open("a") as lines:
                lines.write(f"{took * 1000:.0f} ms: {handle!r:.300}\n")

    asyncio.events.Handle._run = measured  # type: ignore[method-assign]


def main() -> None:
    _, file, *arguments = sys.argv
    hidden: Any = None
    sys.modules["uvloop"] = hidden  # its handles cannot be looked at; what runs in them is the same
    measure(Path(file))
    import typer

    from dtqkit.cli.server import server

    sys.argv = ["server", *arguments]
    typer.run(server)


if __name__ == "__main__":
    main()
