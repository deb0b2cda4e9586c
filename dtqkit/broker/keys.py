"""The whole key map. Nothing else in the code spells a Redis key.

    queue:high|medium|low   list of 24-hex ids: RPUSH, popped from the left
    queue:inflight          zset of `lane:id` popped and not yet claimed; score: when to give up on them (ms)
    queue:scheduled         zset of `lane:id`; score: when it is due (ms)
    workers                 zset of worker ids; score: last beat (ms)
    worker:<id>:wake        list that ends this worker's blocking pop; expires
    worker:<id>             hash; `beat`: what the worker says of itself; `tasks`: those it serves; both JSON; expires
    leader                  id of the leading process; expires after two beats
    queue:record            the id of the record (MongoDB's `configuration`) whose jobs are listed here
    queue:probe             written to see whether Redis takes writes; expires
    epoch                   Redis's run_id, once the lanes are known to be complete
    epoch:building          nonce of the leader that is completing them
    rounds                  what the leader's rounds last did, as JSON; expires
    job:<id>:live           progress and log tail of a running job, as JSON; expires
    cancels                 zset of job ids whose running attempt is to be stopped; score: when to forget it (ms)

and the channels `worker-heartbeats` and `job-events`. With a namespace, all of them begin with it and a colon; in a
Redis Cluster with `{namespace}:`, or `{dtqkit}:` when there is none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from dtqkit.model.jobs import PRIORITIES, Priority


class Keys(msgspec.Struct, frozen=True):
    """The keys of one namespace."""

    prefix: str

    @classmethod
    def of(cls, namespace: str) -> Keys:
        return cls(f"{namespace}:" if namespace else "")

    @classmethod
    def in_cluster(cls, namespace: str) -> Keys:
        """A cluster keeps what stands in braces on one node, and scripts need their keys together."""
        return cls(f"{{{namespace or 'dtqkit'}}}:")

    def lane(self, priority: Priority) -> str:
        return f"{self.prefix}queue:{priority}"

    def lanes(self, priorities: Iterable[Priority] = PRIORITIES) -> list[str]:
        return [self.lane(p) for p in priorities]

    @property
    def inflight(self) -> str:
        return f"{self.prefix}queue:inflight"

    @property
    def scheduled(self) -> str:
        return f"{self.prefix}queue:scheduled"

    @property
    def workers(self) -> str:
        return f"{self.prefix}workers"

    def worker(self, worker_id: str) -> str:
        return f"{self.prefix}worker:{worker_id}"

    def wake(self, worker_id: str) -> str:
        return f"{self.prefix}worker:{worker_id}:wake"

    @property
    def record(self) -> str:
        return f"{self.prefix}queue:record"

    @property
    def probe(self) -> str:
        return f"{self.prefix}queue:probe"

    @property
    def leader(self) -> str:
        return f"{self.prefix}leader"

    @property
    def epoch(self) -> str:
        return f"{self.prefix}epoch"

    @property
    def epoch_building(self) -> str:
        return f"{self.prefix}epoch:building"

    @property
    def rounds(self) -> str:
        return f"{self.prefix}rounds"

    def live(self, job_id: str) -> str:
        return f"{self.prefix}job:{job_id}:live"

    @property
    def cancels(self) -> str:
        return f"{self.prefix}cancels"

    @property
    def heartbeats(self) -> str:
        return f"{self.prefix}worker-heartbeats"

    @property
    def events(self) -> str:
        return f"{self.prefix}job-events"


_SEPARATOR: Final = ":"


def member(priority: Priority, job_id: str) -> str:
    """How `inflight` and `scheduled` name a job."""
    return f"{priority}{_SEPARATOR}{job_id}"


def split_member(text: str) -> tuple[Priority, str]:
    """The lane and the id of a `member`; ValueError when it is not one."""
    lane, _, job_id = text.partition(_SEPARATOR)
    for priority in PRIORITIES:
        if lane == priority:
            return priority, job_id
    raise ValueError(f"{text!r} names no lane")
