"""The messages of the stream (`/ws`), as server, remote client and board speak them.

    client                                        server
    {"type": "hello", "token": …}            →    {"type": "snapshot", …}
    {"type": "watch", "jobs": [id, …]}       →    {"type": "events", …} for these jobs only; null: for all again
                                                  {"type": "line", "up": false} while the server hears no events
                                                  {"type": "beat"} every BEAT_S: who hears nothing for SILENT_S has lost
                                                  the server, whatever its own socket says

Events may be lost: a snapshot says that some may have been, and to ask again for what one must know.
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
#: client connects anew. dashboard/board/web_source.js has the same.
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
    """All that a board needs to begin with, or to go on with when events may have been lost."""

    depths: Depths
    workers: tuple[Heartbeat, ...]
    jobs: tuple[Job, ...]


class EventsMessage(msgspec.Struct, frozen=True, tag="events", kw_only=True, omit_defaults=True):
    """What has changed: at most one event a job, never one older than what was sent before."""

    jobs: tuple[JobEvent, ...] = ()
    progress: tuple[ProgressEvent, ...] = ()
    #: These two when they were looked up anew.
    depths: Depths | None = None
    workers: tuple[Heartbeat, ...] | None = None


class LineMessage(msgspec.Struct, frozen=True, tag="line"):
    """Whether the server hears the events itself."""

    up: bool


class BeatMessage(msgspec.Struct, frozen=True, tag="beat"):
    """The server is there, and the path to it works."""


FromClient = Hello | Watch
FromServer = SnapshotMessage | EventsMessage | LineMessage | BeatMessage
