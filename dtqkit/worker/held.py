"""A job that a worker holds."""

from __future__ import annotations

from collections.abc import Sequence

from dtqkit.worker.attempt import RunningAttempt
from dtqkit.worker.claim import Claimed
from dtqkit.worker.slots import Kind


class Held:
    """Its claim, its lease by the worker's monotonic clock, and its attempt."""

    __slots__ = ("attempt", "claimed", "kind", "lease_from", "over", "waits_for")

    def __init__(self, claimed: Claimed, kind: Kind, attempt: RunningAttempt) -> None:
        self.claimed = claimed
        self.kind: Kind = kind
        self.lease_from = claimed.sent
        self.attempt = attempt
        #: Its task is over; its outcome may not be recorded yet.
        self.over = False
        #: The jobs that this one waits for, while it lends its slot.
        self.waits_for: Sequence[str] = ()
