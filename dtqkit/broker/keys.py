"""The key map. No other module contains the name of a Redis key.

    queue:high|medium|low   list of 24-hex ids: pushed right, popped left
    queue:inflight          zset of `lane:id` popped and not yet claimed; score: when the sweep puts it back (ms)
    queue:scheduled         zset of `lane:id`; score: when it is due (ms)
    queue:parked            zset of `lane:id` of paused jobs; score: when the pause ends (ms), or infinite
    queue:pauses            the version of the pauses (MongoDB's `configuration`) that workers should know
    workers                 zset of worker ids; score: last heartbeat (ms)
    worker:<id>:wake        list that ends this worker's blocking pop; expires
    worker:<id>             hash; `beat`: its heartbeat; `tasks`: the tasks it serves; both JSON; expires
    leader                  id of the leading process; expires after two heartbeats
    queue:record            the id of the record (MongoDB's `configuration`) whose jobs are listed here
    queue:probe             written to test whether Redis takes writes; expires
    epoch                   Redis's run_id, once the lanes are known to be complete
    epoch:building          nonce of the leader that is completing them
    queue:schedules         changes when a schedule does: the leader looks at them then; expires
    rounds                  what the leader's rounds did last, as JSON; expires
    job:<id>:live           progress and log tail of a running job, as JSON; expires
    cancels                 zset of job ids whose running attempt is to be stopped; score: when it expires (ms)

and the channels `worker-heartbeats` and `job-events`. With a namespace, all of them begin with `namespace:`; in a Redis
Cluster with `{namespace}:`, or `{dtqkit}:` when there is none. A new key begins with `queue:`: users of Redis who may
use the queue's keys only were given that pattern.
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
        """With a hash tag: scripts need all of their keys on one node of the cluster."""
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
    def parked(self) -> str:
        return f"{self.prefix}queue:parked"

    @property
    def pauses(self) -> str:
        return f"{self.prefix}queue:pauses"

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
    def schedules(self) -> str:
        return f"{self.prefix}queue:schedules"

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
    """The name of a job in `inflight` and `scheduled`."""
    return f"{priority}{_SEPARATOR}{job_id}"


def split_member(text: str) -> tuple[Priority, str]:
    """The lane and the id of a `member`; ValueError when it is not one."""
    lane, _, job_id = text.partition(_SEPARATOR)
    for priority in PRIORITIES:
        if lane == priority:
            return priority, job_id
    raise ValueError(f"{text!r} names no lane")
