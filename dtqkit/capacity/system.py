"""What the jobs run on: workers and their lanes, retries, crashes, latency, autoscaling."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dtqkit.capacity import checks
from dtqkit.capacity.checks import PRIORITIES
from dtqkit.markup import NOT_MATH

SHARED = "shared"
#: Of one job: more cannot be followed one by one, and no task has them.
MOST_LOSSES = 1_000


@dataclass(frozen=True)
class Retry:
    """A failed attempt comes back after backoff with full jitter, as dtqkit.lifecycle has it."""

    max_attempts: int = 3
    backoff_s: float = 1.0
    factor: float = 2.0
    max_backoff_s: float = 600.0

    def __post_init__(self) -> None:
        checks.whole("Retry max_attempts", self.max_attempts)
        checks.not_negative("Retry backoff_s", self.backoff_s)
        checks.not_negative("Retry max_backoff_s", self.max_backoff_s)
        if not self.factor >= 1:
            raise ValueError(f"Retry factor must be at least 1, got {self.factor!r}")


@dataclass(frozen=True)
class Crashes:
    """Workers that die, each by its own clock, and take their running jobs with them."""

    mtbf_s: float
    """Mean time from a start to the crash (exponential)."""
    mttr_s: float = 60.0
    """Mean time from the crash until the worker serves again (exponential)."""
    detection_s: float = 15.0
    """From the crash until its jobs are re-queued; a fallen worker is noticed within 15 s."""
    max_losses: int = 3
    """A job that loses its worker this often is a dead letter."""

    def __post_init__(self) -> None:
        checks.positive("Crashes mtbf_s", self.mtbf_s)
        checks.positive("Crashes mttr_s", self.mttr_s)
        checks.not_negative("Crashes detection_s", self.detection_s)
        checks.whole("Crashes max_losses", self.max_losses, most=MOST_LOSSES)

    @property
    def availability(self) -> float:
        """The part of the time that a worker is up."""
        return self.mtbf_s / (self.mtbf_s + self.mttr_s)


@dataclass(frozen=True)
class Latency:
    """What the API and the stores add to each job, in seconds."""

    submit_s: float = 0.0
    """From submit to the lane."""
    claim_s: float = 0.0
    """From the lane to the first line; the slot is taken, the job still waits."""
    settle_s: float = 0.0
    """From the last line until the slot is free and the outcome recorded."""

    def __post_init__(self) -> None:
        checks.not_negative("Latency submit_s", self.submit_s)
        checks.not_negative("Latency claim_s", self.claim_s)
        checks.not_negative("Latency settle_s", self.settle_s)


@dataclass(frozen=True)
class Autoscale:
    """Shared workers beyond the fixed ones: one more at each look that finds more than `threshold` jobs
    waiting, one less at each that finds none waiting and that worker idle."""

    max_workers: int = 8
    """Fixed ones included (MAX_WORKERS)."""
    threshold: int = 20
    """Waiting jobs, all lanes together (AUTOSCALE_THRESHOLD)."""
    interval_s: float = 30.0
    """Between two looks."""
    start_s: float = 10.0
    """From the decision until the new worker serves."""

    def __post_init__(self) -> None:
        checks.whole("Autoscale max_workers", self.max_workers)
        checks.whole("Autoscale threshold", self.threshold, least=0)
        checks.positive("Autoscale interval_s", self.interval_s)
        checks.not_negative("Autoscale start_s", self.start_s)


def _default_lanes() -> Mapping[str, int]:
    return dict.fromkeys(PRIORITIES, 1)


@dataclass(frozen=True)
class System:
    """Workers by the lane they serve first. The default is the queue's own: one for each lane, helping."""

    lanes: Mapping[str, int] = field(default_factory=_default_lanes)
    """How many workers serve `high`, `medium`, `low` first; `shared` ones serve all, by priority."""
    slots_per_worker: int = 1
    """Jobs that one worker runs at a time."""
    helping: bool = True
    """A worker whose own lane is empty takes from the others, by priority (`--strict` turns it off)."""
    retry: Retry = field(default_factory=Retry)
    crashes: Crashes | None = None
    latency: Latency = field(default_factory=Latency)
    autoscale: Autoscale | None = None

    def __post_init__(self) -> None:
        if not self.lanes:
            raise ValueError("System lanes must name at least one worker, got an empty mapping")
        for lane, workers in self.lanes.items():
            checks.one_of("System lanes", lane, (*PRIORITIES, SHARED))
            checks.whole(f"System lanes[{lane!r}]", workers, least=0)
        if not self.workers:
            raise ValueError(f"System lanes must have at least one worker, got {dict(self.lanes)!r}")
        checks.whole("System slots_per_worker", self.slots_per_worker)
        if self.autoscale and self.autoscale.max_workers < self.workers:
            raise ValueError(
                f"Autoscale max_workers must be at least the {self.workers} fixed ones, "
                f"got {self.autoscale.max_workers}"
            )

    @classmethod
    def default(cls, workers: int = 3) -> "System":
        """The layout of `dtqkit worker`: worker 1 serves high first, 2 medium, 3 low, 4 high again, …"""
        checks.whole("workers", workers)
        return cls(lanes={p: (workers + 2 - i) // 3 for i, p in enumerate(PRIORITIES)})

    @property
    def workers(self) -> int:
        """The fixed ones."""
        return sum(self.lanes.values())

    @property
    def servers(self) -> int:
        """c of the formulas: slots of the fixed workers."""
        return self.workers * self.slots_per_worker

    @property
    def most_workers(self) -> int:
        return self.autoscale.max_workers if self.autoscale else self.workers

    @property
    def homes(self) -> tuple[str, ...]:
        """For each worker, fixed ones first, the lane that it serves first, or `shared`."""
        fixed = [lane for lane in (*PRIORITIES, SHARED) for _ in range(self.lanes.get(lane, 0))]
        return (*fixed, *[SHARED] * (self.most_workers - self.workers))

    def serves(self, home: str) -> tuple[int, ...]:
        """The lanes (0 high, 1 medium, 2 low) that a worker of this home takes from, in its order."""
        if home == SHARED:
            return (0, 1, 2)
        own = PRIORITIES.index(home)
        return (own, *(lane for lane in (0, 1, 2) if lane != own)) if self.helping else (own,)

    def with_workers(self, **lanes: int) -> "System":
        """The same with these counts in place of its own: `with_workers(shared=6)` keeps other lanes."""
        return replace(self, lanes={**self.lanes, **lanes})

    def _repr_html_(self) -> str:
        lanes = ", ".join(f"{n} {lane}" for lane, n in self.lanes.items() if n)
        said = f"{lanes}; {self.slots_per_worker} slot(s) each; helping {self.helping}"
        return f'<span class="{NOT_MATH}"><b>System</b>: {said}</span>'
