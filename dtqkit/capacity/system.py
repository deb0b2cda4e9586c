"""The system that runs the jobs: workers and their lanes, retries, crashes, latency, autoscaling."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from dtqkit.capacity import checks
from dtqkit.model.errors import InvalidOption
from dtqkit.model.jobs import PRIORITIES
from dtqkit.support.markup import NOT_MATH

#: The lane name of workers that serve all lanes.
SHARED: Final = "shared"
#: Upper bound of Crashes.max_losses. The load is summed over losses, so a larger bound would be slow.
MOST_LOSSES: Final = 1_000


@dataclass(frozen=True)
class Retry:
    """A failed attempt is retried after a backoff with full jitter, by the rule of dtqkit.model.lifecycle."""

    max_attempts: int = 3
    backoff_s: float = 1.0
    factor: float = 2.0
    max_backoff_s: float = 600.0

    def __post_init__(self) -> None:
        checks.whole("Retry max_attempts", self.max_attempts)
        checks.not_negative("Retry backoff_s", self.backoff_s)
        checks.not_negative("Retry max_backoff_s", self.max_backoff_s)
        if not self.factor >= 1:
            raise InvalidOption(f"Retry factor must be at least 1, got {self.factor!r}")


@dataclass(frozen=True)
class Crashes:
    """Crashes of workers, independent of each other. A crash ends the attempts that run on the worker."""

    #: Mean time from start to crash (exponential).
    mtbf_s: float
    #: Mean time from the crash until the worker runs again (exponential).
    mttr_s: float = 60.0
    #: From the crash until the leader re-queues the jobs. The queue's default settings detect a crash within 15 s.
    detection_s: float = 15.0
    #: A job whose worker crashes this many times becomes a dead letter.
    max_losses: int = 3

    def __post_init__(self) -> None:
        checks.positive("Crashes mtbf_s", self.mtbf_s)
        checks.positive("Crashes mttr_s", self.mttr_s)
        checks.not_negative("Crashes detection_s", self.detection_s)
        checks.whole("Crashes max_losses", self.max_losses, most=MOST_LOSSES)

    @property
    def availability(self) -> float:
        """Share of the time that a worker is up."""
        return self.mtbf_s / (self.mtbf_s + self.mttr_s)


@dataclass(frozen=True)
class Latency:
    """Time that the API and the stores add to each job (s)."""

    #: From the submit until the job is in its lane.
    submit_s: float = 0.0
    #: From leaving the lane until the task's first line. The slot is in use; the job counts as waiting.
    claim_s: float = 0.0
    #: From the task's last line until the outcome is recorded and the slot is free.
    settle_s: float = 0.0

    def __post_init__(self) -> None:
        checks.not_negative("Latency submit_s", self.submit_s)
        checks.not_negative("Latency claim_s", self.claim_s)
        checks.not_negative("Latency settle_s", self.settle_s)


@dataclass(frozen=True)
class Autoscale:
    """Shared workers added to the fixed ones.

    Each `interval_s`: one worker is added if more than `threshold` jobs wait; one is removed if no job waits and the
    last added worker is idle.
    """

    #: Fixed workers included (MAX_WORKERS).
    max_workers: int = 8
    #: Waiting jobs in all lanes (AUTOSCALE_THRESHOLD).
    threshold: int = 20
    #: Between two checks.
    interval_s: float = 30.0
    #: From the decision until the new worker takes jobs.
    start_s: float = 10.0

    def __post_init__(self) -> None:
        checks.whole("Autoscale max_workers", self.max_workers)
        checks.whole("Autoscale threshold", self.threshold, least=0)
        checks.positive("Autoscale interval_s", self.interval_s)
        checks.not_negative("Autoscale start_s", self.start_s)


def _default_lanes() -> Mapping[str, int]:
    return dict.fromkeys(PRIORITIES, 1)


@dataclass(frozen=True)
class System:
    """Workers by the lane that they serve first. The default is the queue's own: one worker per lane, helping.

    system = cap.System(lanes={"shared": 4, "high": 1}, retry=cap.Retry(max_attempts=3, backoff_s=10))
    """

    #: Number of workers that serve `high`, `medium` or `low` first; `shared` workers serve all lanes, by priority.
    lanes: Mapping[str, int] = field(default_factory=_default_lanes)
    #: Jobs that a worker runs at a time.
    slots_per_worker: int = 1
    #: A worker whose own lane is empty takes jobs of the other lanes, by priority (`--strict` turns it off).
    helping: bool = True
    retry: Retry = field(default_factory=Retry)
    crashes: Crashes | None = None
    latency: Latency = field(default_factory=Latency)
    autoscale: Autoscale | None = None

    def __post_init__(self) -> None:
        if not self.lanes:
            raise InvalidOption("System lanes must name at least one worker, got an empty mapping")
        for lane, workers in self.lanes.items():
            checks.one_of("System lanes", lane, (*PRIORITIES, SHARED))
            checks.whole(f"System lanes[{lane!r}]", workers, least=0)
        if not self.workers:
            raise InvalidOption(f"System lanes must have at least one worker, got {dict(self.lanes)!r}")
        checks.whole("System slots_per_worker", self.slots_per_worker)
        if self.autoscale and self.autoscale.max_workers < self.workers:
            raise InvalidOption(
                f"Autoscale max_workers must be at least the {self.workers} fixed workers, "
                f"got {self.autoscale.max_workers}"
            )

    @classmethod
    def default(cls, workers: int = 3) -> "System":
        """The layout of `dtqkit worker`: worker 1 serves high first, 2 medium, 3 low, 4 high again, …"""
        checks.whole("workers", workers)
        return cls(lanes={p: (workers + 2 - i) // 3 for i, p in enumerate(PRIORITIES)})

    @property
    def workers(self) -> int:
        """Number of fixed workers."""
        return sum(self.lanes.values())

    @property
    def servers(self) -> int:
        """c of the formulas: slots of all fixed workers."""
        return self.workers * self.slots_per_worker

    @property
    def most_workers(self) -> int:
        return self.autoscale.max_workers if self.autoscale else self.workers

    @property
    def homes(self) -> tuple[str, ...]:
        """For each worker, fixed workers first: the lane that it serves first, or `shared`."""
        fixed = [lane for lane in (*PRIORITIES, SHARED) for _ in range(self.lanes.get(lane, 0))]
        return (*fixed, *[SHARED] * (self.most_workers - self.workers))

    def serves(self, home: str) -> tuple[int, ...]:
        """Lanes (0 high, 1 medium, 2 low) that a worker with this home takes jobs from, in order."""
        if home == SHARED:
            return (0, 1, 2)
        own = PRIORITIES.index(home)
        return (own, *(lane for lane in (0, 1, 2) if lane != own)) if self.helping else (own,)

    def with_workers(self, **lanes: int) -> "System":
        """The same system with these counts: `with_workers(shared=6)` changes `shared` and keeps the other lanes."""
        return replace(self, lanes={**self.lanes, **lanes})

    def _repr_html_(self) -> str:
        lanes = ", ".join(f"{n} {lane}" for lane, n in self.lanes.items() if n)
        text = f"{lanes}; {self.slots_per_worker} slot(s) each; helping {self.helping}"
        return f'<span class="{NOT_MATH}"><b>System</b>: {text}</span>'
