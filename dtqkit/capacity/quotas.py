"""The limits of a tier, and when the workload reaches them."""

import math
from dataclasses import dataclass
from typing import Final

import msgspec

from dtqkit.capacity import checks
from dtqkit.capacity.load import attempts_per_job
from dtqkit.capacity.system import System
from dtqkit.capacity.tiers import Tier
from dtqkit.capacity.workload import Workload

MONTH_DAYS: Final = 30.44
MB: Final = 1_000_000


@dataclass(frozen=True)
class Footprint:
    """What the stores need per job. The defaults are measured on this queue with small payloads; measure your own."""

    #: MongoDB: a finished job with its attempts and index entries.
    document_bytes: int = 1200
    #: How long finished jobs are kept (DTQ_RETENTION_DAYS).
    retention_days: float = 30.0
    #: MongoDB: claim and settle.
    operations_per_attempt: float = 2.0
    operations_per_submit: float = 1.0
    #: MongoDB: one a minute by the leader.
    idle_operations_per_day: float = 1440.0
    #: Redis: per job that waits in a lane.
    lane_bytes: float = 32.0
    redis_base_mb: float = 2.0
    connections_per_worker: int = 4
    connections_per_api_node: int = 10

    def __post_init__(self) -> None:
        checks.whole("Footprint document_bytes", self.document_bytes)
        checks.positive("Footprint retention_days", self.retention_days)
        checks.positive("Footprint lane_bytes", self.lane_bytes)
        for name in ("operations_per_attempt", "operations_per_submit", "idle_operations_per_day", "redis_base_mb"):
            checks.not_negative(f"Footprint {name}", getattr(self, name))

    def operations_per_day(self, work: Workload, system: System) -> float:
        """MongoDB operations a day, idle ones included."""
        each = self.operations_per_submit + self.operations_per_attempt * attempts_per_job(system, work)
        return work.jobs_per_day * each + self.idle_operations_per_day

    def stored_mb(self, work: Workload, day: float) -> float:
        """MongoDB storage (MB) this many days after an empty start."""
        return work.jobs_per_day * min(day, self.retention_days) * self.document_bytes / MB

    def redis_mb(self, work: Workload, days_stopped: float, waiting: float = 0.0) -> float:
        """Redis memory (MB) when no worker has run for this many days."""
        return self.redis_base_mb + (waiting + work.jobs_per_day * days_stopped) * self.lane_bytes / MB


class Quota(msgspec.Struct, frozen=True):
    """One limit of a tier, and how much of it the workload uses."""

    name: str
    used: float
    limit: float
    unit: str
    #: Days until it is used up, from now or from the start of a month; infinite if the limit suffices.
    days: float
    note: str = ""

    @property
    def holds(self) -> bool:
        return self.used <= self.limit

    @property
    def share(self) -> float:
        return self.used / self.limit

    def __str__(self) -> str:
        state = "holds" if self.holds else f"is used up after {self.days:.1f} days" if self.days else "is exceeded"
        use = f"{self.used:,.0f} of {self.limit:,.0f} {self.unit} ({self.share:.0%})"
        return f"{self.name}: {use}, {state}. {self.note}".rstrip()


def quotas(tier: Tier, work: Workload, system: System, footprint: Footprint | None = None) -> tuple[Quota, ...]:
    """All limits that the tier states, by the share used, largest first."""
    usage = footprint or Footprint()
    daily = usage.operations_per_day(work, system)
    found: list[Quota] = []
    if (limit := tier.mongodb_operations_per_month) is not None:
        days = limit / daily if daily * MONTH_DAYS > limit else math.inf
        note = "" if math.isinf(days) else "Resets monthly."
        found.append(Quota("MongoDB operations", daily * MONTH_DAYS, limit, "a month", days, note))
    if (limit := tier.mongodb_operations_per_s) is not None:
        peak = daily / 86_400 * work.peak
        found.append(Quota("MongoDB operations in the busiest hour", peak, limit, "a second", _now(peak, limit)))
    if (limit := tier.mongodb_storage_mb) is not None:
        found.append(_storage(work, usage, limit))
    if (limit := tier.redis_memory_mb) is not None:
        filled = (limit - usage.redis_base_mb) * MB / usage.lane_bytes / work.jobs_per_day
        note = f"Stopped workers fill it in {filled:.0f} days."
        used = usage.redis_mb(work, 1.0)
        found.append(Quota("Redis memory, a day's jobs waiting", used, limit, "MB", _now(used, limit), note))
    if (limit := tier.redis_connections) is not None:
        used = system.most_workers * usage.connections_per_worker + tier.api_nodes * usage.connections_per_api_node
        found.append(Quota("Redis connections", used, limit, "at once", _now(used, limit)))
    if (limit := tier.worker_hours) is not None:
        hours = 24.0 * 31
        found.append(Quota("hours of each worker", hours, limit, "a month of 31 days", _now(hours, limit)))
    return tuple(sorted(found, key=lambda quota: -quota.share))


def _now(used: float, limit: float) -> float:
    return 0.0 if used > limit else math.inf


def _storage(work: Workload, footprint: Footprint, limit: float) -> Quota:
    kept = footprint.stored_mb(work, footprint.retention_days)
    daily = footprint.stored_mb(work, 1.0)
    days = limit / daily if kept > limit else math.inf
    note = "" if kept <= limit else f"{limit / daily:.1f} days of retention would fit."
    return Quota(f"MongoDB storage at {footprint.retention_days:g} days", kept, limit, "MB", days, note)
