"""The changes of a queue for one board: a snapshot, then events, at most five messages a second."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from dtqkit.control import Control
from dtqkit.control.changes import ChangeFeed
from dtqkit.control.operations import SNAPSHOT
from dtqkit.model.errors import StoreUnavailable
from dtqkit.model.events import Depths, Heartbeat, JobEvent, ProgressEvent, Snapshot
from dtqkit.notebook.board_rpc import built

log = logging.getLogger("dtqkit.notebook")

#: Seconds between two messages; and between two snapshots that are kept for a notebook that is saved.
TICK_S: Final = 0.2
KEEP_S: Final = 5.0
#: Jobs in one message; when more have changed, the board gets a snapshot instead.
MOST: Final = 1000

_BOARD: Final = "board"


class Feed:
    """Runs on the queue's private loop. `push` gets {snapshot} and {events}; `keep` a snapshot that can be saved."""

    def __init__(
        self, control: Control, push: Callable[[dict[str, Any]], None], keep: Callable[[dict[str, Any]], None]
    ) -> None:
        self._control = control
        self._push = push
        self._keep = keep
        self._kept = True
        self._feed = ChangeFeed(control, self, pause_s=TICK_S, most=MOST)

    async def run(self) -> None:
        """Until it is cancelled."""
        self._feed.refresh(_BOARD)
        self._feed.watch(True)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._feed.run(), name="follow changes")
            group.create_task(self._save(), name="keep snapshots")

    # -- as a sink

    def readers(self) -> Iterable[str]:
        return (_BOARD,)

    def changed(self, jobs: Sequence[JobEvent], progress: Sequence[ProgressEvent]) -> None:
        self._kept = False
        self._push({"events": {"jobs": msgspec.to_builtins(jobs), "progress": msgspec.to_builtins(progress)}})

    def begin(self, snapshot: Snapshot, readers: set[str], *, up: bool) -> None:  # noqa: ARG002 - one reader
        found = built(snapshot)
        self._push({"snapshot": found})
        self._kept = True
        self._keep({"at": datetime.now(UTC).isoformat(), **found})

    def looked(self, depths: Depths | None, workers: Sequence[Heartbeat] | None) -> None:
        """Also when nothing has changed: the board sees that the kernel is there."""
        known = {"depths": depths, "workers": workers}
        if found := {name: built(value) for name, value in known.items() if value is not None}:
            self._push({"events": found})

    def down(self) -> None:
        """The board still gets answers to its requests."""

    async def _save(self) -> None:
        while True:
            await asyncio.sleep(KEEP_S)
            if self._kept:
                continue
            self._kept = True
            try:
                found = built(await self._control.ask(SNAPSHOT))
            except StoreUnavailable:
                continue
            self._keep({"at": datetime.now(UTC).isoformat(), **found})


async def feed(
    control: Control, push: Callable[[dict[str, Any]], None], keep: Callable[[dict[str, Any]], None]
) -> None:
    """Run a feed until it is cancelled; an error is logged, since nothing else would report it."""
    try:
        await Feed(control, push, keep).run()
    except Exception:
        log.exception("the board gets no more updates")
        raise
