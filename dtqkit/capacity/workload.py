"""The workload: how many jobs arrive, when, with which priority, how long they run, how often they fail."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from dtqkit.capacity import checks
from dtqkit.capacity.distributions import Distribution, Floats, checked
from dtqkit.capacity.html import table_html
from dtqkit.capacity.profiles import HourOfWeek, Profile
from dtqkit.model.errors import InvalidOption
from dtqkit.model.jobs import PRIORITIES, Priority

DAY_S: Final = 86_400.0


@dataclass(frozen=True, eq=False)
class Trace:
    """Recorded arrivals, replayed instead of drawn."""

    #: Seconds from the start of the trace, ascending, shape (jobs,).
    arrivals_s: Floats
    #: One per job; None: drawn from the workload's mix.
    priorities: Sequence[str] | None = None
    #: Run time (s) of the attempts before the first failure, shape (jobs,); None: drawn from the workload's service.
    service_s: Floats | None = None

    def __post_init__(self) -> None:
        arrivals = np.asarray(self.arrivals_s, dtype=np.float64)
        if arrivals.ndim != 1 or not len(arrivals):
            raise InvalidOption(f"Trace arrivals_s must be a list of at least one time, got shape {arrivals.shape}")
        if not np.isfinite(arrivals).all() or arrivals[0] < 0 or (np.diff(arrivals) < 0).any():
            raise InvalidOption("Trace arrivals_s must be finite, ascending and not negative (seconds from the start)")
        object.__setattr__(self, "arrivals_s", arrivals)
        if self.service_s is not None:
            service = np.asarray(self.service_s, dtype=np.float64)
            if service.shape != arrivals.shape or not np.isfinite(service).all() or (service < 0).any():
                raise InvalidOption(
                    f"Trace service_s must be {len(arrivals)} finite times of at least 0, one per job; "
                    f"got shape {service.shape}"
                )
            object.__setattr__(self, "service_s", service)
        if self.priorities is not None:
            if len(self.priorities) != len(arrivals):
                raise InvalidOption(
                    f"Trace priorities must be {len(arrivals)} names, one per job; got {len(self.priorities)}"
                )
            for priority in set(self.priorities):
                checks.one_of("Trace priorities", priority, PRIORITIES)


def _default_mix() -> Mapping[str, float]:
    return {"high": 0.1, "medium": 0.3, "low": 0.6}


@dataclass(frozen=True, eq=False)
class Workload:
    """The jobs that arrive. Times in seconds; rates count jobs, not attempts.

    work = cap.Workload(jobs_per_day=10_000, service=cap.Lognormal(mean=15, scv=1))
    """

    #: Mean over the day (or over the week of the profile).
    jobs_per_day: float
    #: Run time of one attempt: one distribution, or one for each priority of the mix.
    service: Distribution | Mapping[str, Distribution]
    #: Share of each priority; the shares sum to 1.
    mix: Mapping[str, float] = field(default_factory=_default_mix)
    #: Rate by hour; None: constant.
    profile: Profile | None = None
    #: Of one attempt. `System.retry` says how failed attempts are retried.
    failure_probability: float = 0.0
    #: Replayed instead of drawn arrivals.
    trace: Trace | None = None
    #: Number of measured attempts behind these figures; None: they are assumed.
    observations: int | None = None

    def __post_init__(self) -> None:
        checks.positive("Workload jobs_per_day", self.jobs_per_day)
        checks.probability("Workload failure_probability", self.failure_probability)
        for priority, share in self.mix.items():
            checks.one_of("Workload mix", priority, PRIORITIES)
            checks.not_negative(f"Workload mix[{priority!r}]", share)
        if not math.isclose(total := sum(self.mix.values()), 1.0, abs_tol=1e-6):
            raise InvalidOption(f"Workload mix must add up to 1, got {total:g} from {dict(self.mix)!r}")
        for priority in self.priorities:
            checked(self.service_of(priority))

    def service_of(self, priority: str) -> Distribution:
        if not isinstance(self.service, Mapping):
            return self.service
        if priority not in self.service:
            raise InvalidOption(
                f"Workload service must have a distribution for each priority of the mix; {priority!r} is missing, "
                f"got {', '.join(self.service)}"
            )
        return self.service[priority]

    @property
    def shares(self) -> tuple[float, float, float]:
        """Shares of high, medium and low."""
        high, medium, low = (self.mix.get(priority, 0.0) for priority in PRIORITIES)
        return high, medium, low

    @property
    def priorities(self) -> tuple[Priority, ...]:
        """Priorities that have jobs, the highest first."""
        return tuple(priority for priority in PRIORITIES if self.mix.get(priority))

    @property
    def arrival_rate(self) -> float:
        """λ: jobs/s, mean over the day."""
        return self.jobs_per_day / DAY_S

    @property
    def mean_service_s(self) -> float:
        """E[S] of one attempt, over all priorities."""
        return sum(self.mix[p] * self.service_of(p).mean for p in self.priorities)

    @property
    def scv(self) -> float:
        """cs² of one attempt, over all priorities."""
        services = {p: self.service_of(p) for p in self.priorities}
        moment = sum(self.mix[p] * service.mean**2 * (1 + service.scv) for p, service in services.items())
        return max(0.0, moment / self.mean_service_s**2 - 1)

    @property
    def offered_load(self) -> float:
        """a = λ·E[S] in Erlang, without retries."""
        return self.arrival_rate * self.mean_service_s

    @property
    def peak(self) -> float:
        """Rate in the busiest hour divided by the mean rate; 1 without a profile."""
        return self.profile.peak if self.profile else 1.0

    @property
    def cycle_s(self) -> float:
        """Seconds until the profile repeats: a day, or a week."""
        return 3600.0 * self.profile.hours if self.profile else 86_400.0

    def attempts_per_job(self, max_attempts: int) -> float:
        """Mean number of attempts of a job: (1 - p^n) / (1 - p), with p the failure probability and n `max_attempts`.

        Retries multiply the load by this factor: p = 0.1 and n = 3 give 1.11.
        """
        p = self.failure_probability
        return (1 - p**max_attempts) / (1 - p)

    @property
    def is_terminating(self) -> bool:
        """Whether to simulate a given day or trace from its start; otherwise the steady state is estimated."""
        return self.profile is not None or self.trace is not None

    def scaled(self, *, jobs_per_day: float) -> "Workload":
        """The same workload at another rate."""
        if self.trace is not None:
            raise InvalidOption("a Workload with a trace cannot be scaled: use a rate and a profile instead")
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
            found.append("assumed, not measured: check it against the queue's history before you pay for workers")
        elif self.observations < 1000:
            found.append(f"based on {self.observations} attempts only: measure at least 1,000 of each frequent task")
        if self.peak > 1:
            hour = self.profile.peak_hour if self.profile else 0
            unit = "hour of week" if isinstance(self.profile, HourOfWeek) else "hour"
            found.append(f"the busiest {unit} ({hour}) has {self.peak:.2f} times the mean rate: plan for that one")
        return tuple(found)

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()  # pyright: ignore[reportPrivateUsage] - the notebook's own protocol


class Summary(msgspec.Struct, frozen=True):
    """A workload in figures."""

    #: jobs/s
    arrival_rate: float
    #: jobs/s in the busiest hour
    peak_rate: float
    mean_service_s: float
    scv: float
    #: Erlang
    offered_load: float
    #: Erlang in the busiest hour
    peak_load: float
    #: Measured attempts; None: assumed.
    n: int | None
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
    """The lane (0 high, 1 medium, 2 low) of each uniform draw, by the shares of `mix`; same shape as `draws`."""
    return np.searchsorted(np.cumsum(mix)[:2], draws, side="right").astype(np.int8)
