"""The messages of the stream (`/ws`) between server, remote client and board.

    client                                        server
    {"type": "hello", "token": …}            →    {"type": "snapshot", …}
    {"type": "watch", "jobs": [id, …]}       →    {"type": "events", …} for these jobs only; null: for all again
                                                  {"type": "line", "up": false} while the server gets no events
                                                  {"type": "beat"} every BEAT_S: a client that gets nothing for SILENT_S
                                                  has lost the server, even if its socket is still open

Events may be lost: after a snapshot, a client asks again for what it must know.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from dtqkit.model.events import Depths, Heartbeat, JobEvent, ProgressEvent
from dtqkit.model.jobs import Job

#: Seconds in which a client must say hello.
HELLO_S: Final = 5.0
#: Jobs that a client may watch.
MAX_WATCHED: Final = 1_000

#: Seconds between two beats of the server; and without any message, two missed beats and a little, after which a
#: client reconnects. dashboard/board/web_source.js has the same.
BEAT_S: Final = 5.0
SILENT_S: Final = 12.0

#: Codes that the server closes with.
CLOSE_POLICY: Final = 1008
CLOSE_TRY_LATER: Final = 1013
CLOSE_UNAUTHORIZED: Final = 4401


class Hello(msgspec.Struct, frozen=True, tag="hello", forbid_unknown_fields=True):
    """Must come first."""

    token: str


class Watch(msgspec.Struct, frozen=True, tag="watch", forbid_unknown_fields=True):
    """Narrow the events to some jobs; None: all again."""

    jobs: Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_WATCHED)] | None


class SnapshotMessage(msgspec.Struct, frozen=True, tag="snapshot", kw_only=True):
    """The state that a board starts with, or continues with when events may have been lost."""

    depths: Depths
    workers: tuple[Heartbeat, ...]
    jobs: tuple[Job, ...]


class EventsMessage(msgspec.Struct, frozen=True, tag="events", kw_only=True, omit_defaults=True):
    """Changes: at most one event per job, never one older than those sent before."""

    jobs: tuple[JobEvent, ...] = ()
    progress: tuple[ProgressEvent, ...] = ()
    #: These two only when they were read again.
    depths: Depths | None = None
    workers: tuple[Heartbeat, ...] | None = None


class LineMessage(msgspec.Struct, frozen=True, tag="line"):
    """Whether the server itself gets events."""

    up: bool


class BeatMessage(msgspec.Struct, frozen=True, tag="beat"):
    """The server is there, and the path to it works."""


FromClient = Hello | Watch
FromServer = SnapshotMessage | EventsMessage | LineMessage | BeatMessage
