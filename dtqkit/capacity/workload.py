"""What comes in: how many jobs, when, of which priority, how long they take, how often they fail."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from dtqkit.capacity import checks
from dtqkit.capacity.checks import PRIORITIES
from dtqkit.capacity.distributions import Distribution, Floats, checked
from dtqkit.capacity.html import table_html
from dtqkit.capacity.profiles import HourOfWeek, Profile

DAY_S = 86_400.0


@dataclass(frozen=True, eq=False)
class Trace:
    """Arrivals as they were, instead of drawn ones."""

    arrivals_s: Floats
    """Ascending, from the start of the trace."""
    priorities: Sequence[str] | None = None
    """One a job; drawn from the workload's mix if absent."""
    service_s: Floats | None = None
    """Run times until a first failure, one a job; drawn from the workload's service if absent."""

    def __post_init__(self) -> None:
        arrivals = np.asarray(self.arrivals_s, dtype=np.float64)
        if arrivals.ndim != 1 or not len(arrivals):
            raise ValueError(f"Trace arrivals_s must be a list of at least one time, got shape {arrivals.shape}")
        if not np.isfinite(arrivals).all() or arrivals[0] < 0 or (np.diff(arrivals) < 0).any():
            raise ValueError("Trace arrivals_s must be finite, ascending and not negative (seconds from the start)")
        object.__setattr__(self, "arrivals_s", arrivals)
        if self.service_s is not None:
            service = np.asarray(self.service_s, dtype=np.float64)
            if service.shape != arrivals.shape or not np.isfinite(service).all() or (service < 0).any():
                raise ValueError(
                    f"Trace service_s must be {len(arrivals)} finite times of at least 0, one a job; "
                    f"got shape {service.shape}"
                )
            object.__setattr__(self, "service_s", service)
        if self.priorities is not None:
            if len(self.priorities) != len(arrivals):
                raise ValueError(
                    f"Trace priorities must be {len(arrivals)} names, one a job; got {len(self.priorities)}"
                )
            for priority in set(self.priorities):
                checks.one_of("Trace priorities", priority, PRIORITIES)


def _default_mix() -> Mapping[str, float]:
    return {"high": 0.1, "medium": 0.3, "low": 0.6}


@dataclass(frozen=True, eq=False)
class Workload:
    """The demand on the queue. Times in seconds; rates are of jobs, not of attempts."""

    jobs_per_day: float
    service: Distribution | Mapping[str, Distribution]
    """Run time of one attempt: one distribution, or one for each priority of the mix."""
    mix: Mapping[str, float] = field(default_factory=_default_mix)
    """Share of each priority; they add up to 1."""
    profile: Profile | None = None
    """Rate by hour; None: the same all day."""
    failure_probability: float = 0.0
    """Of one attempt. Failed attempts are retried as the System says."""
    trace: Trace | None = None
    """Replayed instead of drawing arrivals."""
    observations: int | None = None
    """How many measured attempts this rests on; None: it is assumed."""

    def __post_init__(self) -> None:
        checks.positive("Workload jobs_per_day", self.jobs_per_day)
        checks.probability("Workload failure_probability", self.failure_probability)
        for priority, share in self.mix.items():
            checks.one_of("Workload mix", priority, PRIORITIES)
            checks.not_negative(f"Workload mix[{priority!r}]", share)
        if not math.isclose(total := sum(self.mix.values()), 1.0, abs_tol=1e-6):
            raise ValueError(f"Workload mix must add up to 1, got {total:g} from {dict(self.mix)!r}")
        for priority in PRIORITIES:
            if self.mix.get(priority, 0) > 0:
                checked(self.service_of(priority))

    def service_of(self, priority: str) -> Distribution:
        if not isinstance(self.service, Mapping):
            return self.service
        if priority not in self.service:
            raise ValueError(
                f"Workload service must have a distribution for each priority of the mix; {priority!r} is missing, "
                f"got {', '.join(self.service)}"
            )
        return self.service[priority]

    @property
    def shares(self) -> tuple[float, float, float]:
        """Of high, medium and low."""
        return (self.mix.get("high", 0.0), self.mix.get("medium", 0.0), self.mix.get("low", 0.0))

    @property
    def arrival_rate(self) -> float:
        """λ: jobs a second, the mean over the day."""
        return self.jobs_per_day / DAY_S

    @property
    def mean_service_s(self) -> float:
        """E[S] of one attempt, over all priorities."""
        return sum(share * self.service_of(p).mean for p, share in zip(PRIORITIES, self.shares, strict=True) if share)

    @property
    def scv(self) -> float:
        """cs² of one attempt, over all priorities."""
        moments = [
            share * self.service_of(p).mean ** 2 * (1 + self.service_of(p).scv)
            for p, share in zip(PRIORITIES, self.shares, strict=True)
            if share
        ]
        return max(0.0, sum(moments) / self.mean_service_s**2 - 1)

    @property
    def offered_load(self) -> float:
        """a = λ·E[S] in Erlang, each job run once."""
        return self.arrival_rate * self.mean_service_s

    @property
    def peak(self) -> float:
        """The busiest hour's rate over the mean rate; 1 without a profile."""
        return self.profile.peak if self.profile else 1.0

    @property
    def cycle_s(self) -> float:
        """Seconds of one turn of its profile: a day, or a week."""
        return 3600.0 * self.profile.hours if self.profile else 86_400.0

    def attempts_per_job(self, max_attempts: int) -> float:
        """(1 - p^(R+1)) / (1 - p) with R = max_attempts - 1 retries: what retries multiply the load by."""
        p = self.failure_probability
        return (1 - p**max_attempts) / (1 - p)

    @property
    def is_terminating(self) -> bool:
        """A day with a profile, or a trace, is simulated as it is; all else is asked for its steady state."""
        return self.profile is not None or self.trace is not None

    def scaled(self, *, jobs_per_day: float) -> "Workload":
        """The same jobs, at another rate."""
        if self.trace is not None:
            raise ValueError("a Workload with a trace cannot be scaled; give a rate and a profile instead")
        return replace(self, jobs_per_day=jobs_per_day)

    def summary(self) -> "Summary":
        return Summary(
            arrival_rate=self.arrival_rate,
            peak_rate=self.arrival_rate * self.peak,
            mean_service_s=self.mean_service_s,
            scv=self.scv,
            offered_load=self.offered_load,
            peak_load=self.offered_load * self.peak,
            n=self.observations,
            warnings=self._warnings(),
        )

    def _warnings(self) -> tuple[str, ...]:
        found: list[str] = []
        if self.observations is None:
            found.append("assumed, not measured: calibrate from the queue's history before money depends on it")
        elif self.observations < 1000:
            found.append(f"rests on {self.observations} attempts; 1,000 for each dominant task give confidence")
        if self.peak > 1:
            hour = self.profile.peak_hour if self.profile else 0
            unit = "hour of week" if isinstance(self.profile, HourOfWeek) else "hour"
            found.append(f"the busiest {unit} ({hour}) brings {self.peak:.2f} times the mean: plan for that one")
        return tuple(found)

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()  # pyright: ignore[reportPrivateUsage] - the notebook's own protocol


@dataclass(frozen=True)
class Summary:
    """A workload in numbers."""

    arrival_rate: float  #: jobs/s
    peak_rate: float  #: jobs/s in the busiest hour
    mean_service_s: float
    scv: float
    offered_load: float  #: Erlang
    peak_load: float  #: Erlang in the busiest hour
    n: int | None  #: measured attempts
    warnings: tuple[str, ...]

    def rows(self) -> list[tuple[str, str, str]]:
        return [
            ("arrival rate λ", f"{self.arrival_rate:.4g}", "jobs/s"),
            ("in the busiest hour", f"{self.peak_rate:.4g}", "jobs/s"),
            ("service time E[S]", f"{self.mean_service_s:.4g}", "s"),
            ("scv cs²", f"{self.scv:.3g}", ""),
            ("offered load a", f"{self.offered_load:.4g}", "Erlang"),
            ("in the busiest hour", f"{self.peak_load:.4g}", "Erlang"),
            ("measured attempts", "none" if self.n is None else f"{self.n:,}", ""),
        ]

    def __str__(self) -> str:
        lines = [f"{name:<20} {value:>10} {unit}".rstrip() for name, value, unit in self.rows()]
        return "\n".join([*lines, *(f"! {warning}" for warning in self.warnings)])

    def _repr_html_(self) -> str:
        return table_html(("", "value", "unit"), self.rows(), notes=self.warnings)


def uniform_index(mix: tuple[float, float, float], draws: Floats) -> npt.NDArray[np.int8]:
    """Lane 0, 1 or 2 of each draw, by the shares."""
    return np.searchsorted(np.cumsum(mix)[:2], draws, side="right").astype(np.int8)
