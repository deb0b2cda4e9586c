"""Service times: how long one attempt takes. Each has a mean (s) and an scv (squared coefficient of variation)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt
from scipy.special import gammainccinv, ndtri

from dtqkit.capacity import checks
from dtqkit.model.errors import InvalidOption

Floats: TypeAlias = npt.NDArray[np.float64]


@runtime_checkable
class Distribution(Protocol):
    """A service time. The engines draw from it; the formulas use its mean and scv."""

    @property
    def mean(self) -> float:
        """Seconds."""
        ...

    @property
    def scv(self) -> float:
        """Variance divided by the squared mean: 0 for a constant, 1 for the exponential."""
        ...

    def sample(self, rng: np.random.Generator, n: int) -> Floats:
        """`n` draws in seconds, shape (n,)."""
        ...


@dataclass(frozen=True)
class Exponential:
    """Exponential service time of this mean (s): the M of M/M/c."""

    mean: float

    def __post_init__(self) -> None:
        checks.positive("Exponential mean", self.mean)

    @property
    def scv(self) -> float:
        return 1.0

    def sample(self, rng: np.random.Generator, n: int) -> Floats:
        return rng.exponential(self.mean, n)


@dataclass(frozen=True)
class Deterministic:
    """The same service time (s) for each job: the D of M/D/c."""

    mean: float

    def __post_init__(self) -> None:
        checks.positive("Deterministic mean", self.mean)

    @property
    def scv(self) -> float:
        return 0.0

    def sample(self, rng: np.random.Generator, n: int) -> Floats:  # noqa: ARG002 - a constant needs no draws
        return np.full(n, float(self.mean))


@dataclass(frozen=True)
class Lognormal:
    """Many short times and a few long ones, as run times of real programs usually are."""

    mean: float
    scv: float = 1.0

    def __post_init__(self) -> None:
        checks.positive("Lognormal mean", self.mean)
        checks.positive("Lognormal scv", self.scv)

    def sample(self, rng: np.random.Generator, n: int) -> Floats:
        variance = math.log1p(self.scv)
        return rng.lognormal(math.log(self.mean) - variance / 2, math.sqrt(variance), n)


@dataclass(frozen=True)
class Gamma:
    """scv below 1: several steps in a row (Erlang); 1: exponential; above 1: more variable than the exponential."""

    mean: float
    scv: float = 1.0

    def __post_init__(self) -> None:
        checks.positive("Gamma mean", self.mean)
        checks.positive("Gamma scv", self.scv)

    def sample(self, rng: np.random.Generator, n: int) -> Floats:
        return rng.gamma(1 / self.scv, self.mean * self.scv, n)


@dataclass(frozen=True)
class HyperExponential:
    """Two kinds of job, short and long, that bring the same load each; scv above 1."""

    mean: float
    scv: float = 4.0

    def __post_init__(self) -> None:
        checks.positive("HyperExponential mean", self.mean)
        if not self.scv > 1:
            raise InvalidOption(f"HyperExponential scv must be above 1, got {self.scv!r}; use Gamma below 1")

    @property
    def branches(self) -> tuple[float, float, float]:
        """The share of short jobs, the mean of short jobs (s), the mean of long jobs (s)."""
        share = 0.5 * (1 + math.sqrt((self.scv - 1) / (self.scv + 1)))
        return share, self.mean / (2 * share), self.mean / (2 * (1 - share))

    def sample(self, rng: np.random.Generator, n: int) -> Floats:
        share, short, long = self.branches
        scale = np.where(rng.random(n) < share, short, long)
        return rng.exponential(1.0, n) * scale


@dataclass(frozen=True)
class Uniform:
    """Uniform from `low` to `high` seconds: `Uniform(1, 60)` has a mean of 30.5 s."""

    low: float
    high: float

    def __post_init__(self) -> None:
        checks.not_negative("Uniform low", self.low)
        if not (math.isfinite(self.high) and self.high > self.low):
            raise InvalidOption(f"Uniform high must be above low ({self.low!r}), got {self.high!r}")

    @property
    def mean(self) -> float:
        return (self.low + self.high) / 2

    @property
    def scv(self) -> float:
        return (self.high - self.low) ** 2 / 12 / self.mean**2

    def sample(self, rng: np.random.Generator, n: int) -> Floats:
        return rng.uniform(self.low, self.high, n)


@dataclass(frozen=True)
class Scaled:
    """Another distribution with each draw multiplied by `factor`: 1.2 means that each job takes 20 % longer."""

    base: Distribution
    factor: float

    def __post_init__(self) -> None:
        checks.positive("Scaled factor", self.factor)

    @property
    def mean(self) -> float:
        return self.base.mean * self.factor

    @property
    def scv(self) -> float:
        return self.base.scv

    def sample(self, rng: np.random.Generator, n: int) -> Floats:
        return self.base.sample(rng, n) * self.factor


class Empirical:
    """Measured times (s), sampled with replacement (a bootstrap)."""

    def __init__(self, values_s: Sequence[float] | Floats) -> None:
        values = np.asarray(values_s, dtype=np.float64)
        if values.ndim != 1 or not len(values):
            raise InvalidOption(f"Empirical values_s must be a list of at least one time, got shape {values.shape}")
        if not (np.isfinite(values).all() and (values >= 0).all() and values.mean() > 0):
            raise InvalidOption("Empirical values_s must be finite, not negative and not all 0 (seconds)")
        self.values_s = values

    def __repr__(self) -> str:
        return f"Empirical(n={len(self.values_s)}, mean={self.mean:.4g}, scv={self.scv:.3g})"

    @property
    def mean(self) -> float:
        return float(self.values_s.mean())

    @property
    def scv(self) -> float:
        return float(self.values_s.var()) / self.mean**2

    def sample(self, rng: np.random.Generator, n: int) -> Floats:
        return self.values_s[rng.integers(0, len(self.values_s), n)]


def _by_name(name: str, mean: float, scv: float) -> Distribution:
    match name:
        case "exponential":
            return Exponential(mean)
        case "deterministic":
            return Deterministic(mean)
        case "lognormal":
            return Lognormal(mean, scv)
        case "gamma":
            return Gamma(mean, scv)
        case _:
            return HyperExponential(mean, scv)


#: Names that `distribution` accepts.
FAMILIES: Final = ("exponential", "deterministic", "lognormal", "gamma", "hyperexponential")


def distribution(name: str, mean: float, scv: float = 1.0) -> Distribution:
    """The distribution of this name (one of FAMILIES), as on the command line.

    `mean` in seconds. `scv` is ignored by the exponential (always 1) and the deterministic (always 0).
    InvalidOption for an unknown name, a mean that is not positive or an scv that the family cannot have.
    """
    return _by_name(checks.one_of("distribution", name, FAMILIES), mean, scv)


def checked(service: object) -> Distribution:
    """`service`, if it is a distribution; otherwise InvalidOption, which lists the distributions."""
    if not isinstance(service, Distribution) or isinstance(service, type):
        known = "Exponential, Deterministic, Lognormal, Gamma, HyperExponential, Uniform, Empirical"
        raise InvalidOption(f"service must be a distribution ({known}) or one per priority, got {service!r}")
    return service


#: P(S > t) at the points where `weighed` takes a distribution apart: dense for the longest times, down to 1e-16.
_TAIL: Floats = (1 - (np.arange(4_000) + 0.5) / 4_000) ** 4
#: The weight of each of these points.
_WEIGHTS: Floats = 4 * (1 - (np.arange(4_000) + 0.5) / 4_000) ** 3 / 4_000
#: Draws that stand for a distribution whose quantiles are not known.
_DRAWN: Final = 100_000


@lru_cache(maxsize=32)
def _gamma_tail(scv: float) -> Floats:
    """Quantiles of the gamma distribution of mean 1 at _TAIL. Cached: the inverse takes milliseconds."""
    return scv * np.asarray(gammainccinv(1 / scv, _TAIL), dtype=np.float64)


def weighed(service: Distribution) -> tuple[Floats, Floats]:
    """Times (s) and weights, both of shape (n,): `weights @ f(times)` is the mean of f(S). The weights sum to 1.

    From quantiles for the named distributions, from the values for `Empirical`, from 100,000 draws for any other.
    """
    match service:
        case Empirical():
            times, weights = service.values_s, np.full(len(service.values_s), 1 / len(service.values_s))
        case Scaled():
            times, weights = weighed(service.base)
            times = times * service.factor
        case HyperExponential():
            share, short, long = service.branches
            times = np.concatenate([-short * np.log(_TAIL), -long * np.log(_TAIL)])
            weights = np.concatenate([share * _WEIGHTS, (1 - share) * _WEIGHTS])
        case Exponential():
            times, weights = -service.mean * np.log(_TAIL), _WEIGHTS
        case Deterministic():
            times, weights = np.array([float(service.mean)]), np.ones(1)
        case Lognormal():
            variance = math.log1p(service.scv)
            times = np.exp(math.log(service.mean) - variance / 2 - math.sqrt(variance) * ndtri(_TAIL))
            weights = _WEIGHTS
        case Gamma():
            times, weights = service.mean * _gamma_tail(service.scv), _WEIGHTS
        case Uniform():
            times, weights = service.high - (service.high - service.low) * _TAIL, _WEIGHTS
        case _:
            times = service.sample(np.random.default_rng(0), _DRAWN)
            weights = np.full(_DRAWN, 1 / _DRAWN)
    return np.asarray(times, dtype=np.float64), weights / weights.sum()
