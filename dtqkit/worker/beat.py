"""The heartbeat: a thread of its own sends one every `heartbeat_s`, even while a task blocks the worker's loop.

The thread cannot run while a task holds the GIL: then the guardian, a process, sends the heartbeat.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import msgspec

from dtqkit.broker import Broker
from dtqkit.broker.client import Script, connect_blocking, redis_errors
from dtqkit.broker.link import script
from dtqkit.broker.refusals import Refusal
from dtqkit.model.errors import StoreUnavailable
from dtqkit.model.events import Depths, Heartbeat, encode_heartbeat
from dtqkit.model.settings import Settings
from dtqkit.worker.guardian import guardian

log = logging.getLogger("dtqkit.worker")

#: Beats after which the hash of a silent worker expires.
_HASH_BEATS: Final = 30
#: Beats between two that name the tasks: fewer than expire the hash, so that the names return soon after a flush.
_TASKS_BEATS: Final = 10
#: How long a stopping worker waits until it is off the list, in seconds.
DEREGISTER_S: Final = 1.0


class Pulse(msgspec.Struct, frozen=True):
    """The reply to a heartbeat: whether there is a leader, jobs to stop, and all workers' last beats by id (ms)."""

    led: bool
    stop: frozenset[str]
    scores: dict[str, str]
    depths: Depths
    #: The version of the pauses that workers should know; empty: none.
    pauses: str


class Beat:
    """Owns its thread and its connection. On that thread, `on_pulse` gets the pulse and whether there was a gap."""

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        compose: Callable[[], Heartbeat],
        on_pulse: Callable[[Pulse, bool], None],
        tasks: Callable[[], Sequence[str]],
        pauses: Callable[[], tuple[str, str]],
    ) -> None:
        """`tasks` names the tasks that the worker serves, for people: sent with some beats.

        `pauses` gives the version of the pauses that the worker knows, and the one in Redis that it found to be wrong.
        """
        self._settings = settings
        self._tasks = tasks
        self._pauses = pauses
        self._broker = broker
        #: Whether the last refusal means that another connection may lead to the right server.
        self._reconnects = False
        self._compose = compose
        self._on_pulse = on_pulse
        self._stop = threading.Event()
        self._deregisters = False
        self._thread: threading.Thread | None = None

    def start(self, name: str) -> None:
        self._worker = name
        self._thread = threading.Thread(target=self._run, name=f"dtqkit-beat-{name}", daemon=True)
        self._thread.start()

    async def stop(self, *, deregister: bool) -> None:
        """Stop beating; with `deregister`, leave the list of workers. The thread ends once Redis has answered."""
        self._deregisters = deregister
        self._stop.set()
        if deregister and self._thread is not None:
            await asyncio.to_thread(self._thread.join, DEREGISTER_S)

    def _run(self) -> None:
        interval_s = self._settings.heartbeat_s
        url = self._settings.redis_url
        client = connect_blocking(url, self._broker.keys.leader, answer_s=max(0.2, min(5.0, interval_s)))
        beat = Script(client, script("beat"))
        self._constant = {"url": url, "interval_s": interval_s, "script": script("beat")}
        depths: Depths | None = None
        last: float | None = None
        down = False
        beats = 0
        try:
            while not self._stop.is_set():
                started = time.monotonic()
                try:
                    with redis_errors(url, "beat", self._refused):
                        pulse = self._once(beat, depths, with_tasks=beats % _TASKS_BEATS == 0)
                except StoreUnavailable as error:
                    if self._reconnects:  # the next connection may lead to the primary
                        cast(Any, client.connection_pool).disconnect()
                        self._reconnects = False
                    if not down:
                        log.warning("cannot send a heartbeat: %s", error)
                    down = True
                    beats = 0
                except Exception:  # without heartbeats, a worker would lose its jobs while it runs them
                    log.exception("a heartbeat failed with an unexpected error; trying again with the next one")
                else:
                    down = False
                    beats += 1
                    gap = last is not None and started - last > self._settings.silence_s
                    last = started
                    depths = pulse.depths
                    self._on_pulse(pulse, gap)
                self._stop.wait(max(0.0, started + interval_s - time.monotonic()))
        finally:
            guardian.forget(self._worker)
            if self._deregisters:
                self._leave(cast(Any, client))
            client.close()

    def _leave(self, client: Any) -> None:
        """Leave the list of workers; else the leader would later treat this worker as dead."""
        try:
            with redis_errors(self._settings.redis_url):
                client.zrem(self._broker.keys.workers, self._worker)
                client.delete(self._broker.keys.worker(self._worker))
        except StoreUnavailable:
            pass  # then the leader treats it as dead

    def _refused(self, refusal: Refusal) -> None:
        self._reconnects = refusal.drops

    def _once(self, beat: Script, depths: Depths | None, *, with_tasks: bool) -> Pulse:
        mine = msgspec.structs.replace(self._compose(), depths=depths)
        text = encode_heartbeat(mine).decode()
        keys = self._broker.keys
        used = [keys.record, keys.workers, keys.worker(mine.id), keys.leader, keys.cancels, keys.pauses, *keys.lanes()]
        expires_ms = int(_HASH_BEATS * self._settings.heartbeat_s * 1000)
        lock_ms = int(self._settings.lock_s * 1000)
        # From "beat" on: fields and values of the worker's hash.
        args = [self._broker.record, mine.id, expires_ms, keys.heartbeats, text, lock_ms, *self._pauses(), "beat", text]
        # Before the beat: a slow answer of Redis must not count as a held GIL.
        guardian.has_beaten(mine.id, self._constant, used, args)
        named = ("tasks", msgspec.json.encode(tuple(self._tasks()))) if with_tasks else ()
        _, led, lanes, stop, scores, pauses = beat.blocking(used, [*args, *named])
        high, medium, low = lanes
        return Pulse(
            bool(led),
            frozenset(stop),
            dict(zip(scores[::2], scores[1::2], strict=True)),
            Depths(high=high, medium=medium, low=low),
            pauses,
        )
