"""Named places, around each write, at which a test makes a process fail. In production `hit` does nothing.

`DTQ_FAILPOINTS` holds what only tests set: `claim.after=kill@2;lose.before=sleep:1.5`. An action is one of

    kill        SIGKILL this process
    stop        SIGSTOP this process, until it gets SIGCONT
    sleep:S     block this thread for S seconds
    raise       raise OutcomeUnknown: the write was not sent (.before), or its reply is lost (.after)
    pass        go on

and `@N` fires when the place is reached for the Nth time (default 1), `@*` each time. An action that fires is first
appended to the file `DTQ_FAILPOINTS_LOG`, as `pid name action`, so that a test can check it.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import Final

from dtqkit.model.errors import OutcomeUnknown

VARIABLE: Final = "DTQ_FAILPOINTS"
LOG_VARIABLE: Final = "DTQ_FAILPOINTS_LOG"

#: The writes of the protocol's steps, each with a place `.before` and a place `.after`.
POINTS: Final = (
    *("insert", "unique", "push"),  # 1 submit
    *("pop", "fetch"),  # 2 pop
    *("claim", "put_back"),  # 3 claim, and what it did not take
    *("renew",),  # 5
    *("settle", "publish"),  # 6 settle, 7 release
    *("follow",),  # 17 follow-ups
    *("beat",),  # 8
    *("lose", "forget"),  # 9 reap
    *("lead",),  # 10 sweep and move
    *("epoch.begin", "prune", "epoch.finish"),  # 11 reconcile
    *("dead_letter.write", "dead_letter.delete", "requeue"),  # 12 dead letters
    *("cancel", "ask_to_stop"),  # 13
    *("tick",),  # 15 periodic
)

#: The same of writes that are made only after a person has asked for something: 20 pauses, 21 change and delete jobs.
ON_REQUEST: Final = ("pause", "announce_pauses", "park", "unpark", "update", "unlist", "delete")


class FailpointPlan:
    """What to do at which place, and when."""

    def __init__(self, text: str, log: str | None) -> None:
        self._actions: dict[str, tuple[str, int | None]] = {}
        for part in filter(None, (p.strip() for p in text.split(";"))):
            place, _, action = part.partition("=")
            action, _, turn = action.partition("@")
            point, _, side = place.rpartition(".")
            if point not in (*POINTS, *ON_REQUEST) or side not in ("before", "after"):
                raise ValueError(f"{VARIABLE} names {place!r}, which is no failpoint")
            self._actions[place] = action, None if turn == "*" else int(turn or 1)
        self._log = log
        self._hits: Counter[str] = Counter()
        self._lock = threading.Lock()

    def hit(self, place: str) -> None:
        planned = self._actions.get(place)
        if planned is None:
            return
        action, turn = planned
        with self._lock:
            self._hits[place] += 1
            if turn is not None and self._hits[place] != turn:
                return
        if self._log is not None:
            descriptor = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.write(descriptor, f"{os.getpid()} {place} {action}\n".encode())
            os.close(descriptor)
        self._act(place, action)

    def _act(self, place: str, action: str) -> None:
        name, _, seconds = action.partition(":")
        match name:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "sleep":
                time.sleep(float(seconds))
            case "raise":
                raise OutcomeUnknown("the failpoint", place, "fails for a test")
            case "pass":
                pass
            case _:
                raise ValueError(f"{VARIABLE} has the action {action!r} at {place}, which does not exist")


def plan_of(environ: Mapping[str, str]) -> FailpointPlan | None:
    """The plan that `environ` sets; None when there is none, as in production."""
    text = environ.get(VARIABLE)
    return FailpointPlan(text, environ.get(LOG_VARIABLE)) if text else None


@cache
def _plan() -> FailpointPlan | None:
    return plan_of(os.environ)


def hit(point: str, side: str) -> None:
    """The place before or after a write is reached."""
    if (plan := _plan()) is not None:
        plan.hit(f"{point}.{side}")
