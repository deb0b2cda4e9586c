"""Queueing formulas for several classes of jobs. Rates in jobs/s, times in seconds; highest priority first.

Exact: `priority_mmc` and `priority_mg1` (non-preemptive priorities), `dedicated_mmc`. A class is unstable, and its
waits are infinite, if the servers cannot carry it and the classes above it.
"""

import math
from collections.abc import Callable, Sequence

import msgspec

from dtqkit.capacity import checks
from dtqkit.capacity.inversion import Transform, tail_of
from dtqkit.capacity.theory import Queue, erlang_c, gamma_transform, mmc, unstable
from dtqkit.model.errors import InvalidOption


class Classes(msgspec.Struct, frozen=True, eq=False):
    """What a formula gives for several classes of jobs. Each tuple has one entry per class, highest priority first."""

    classes: tuple[Queue, ...]
    #: Of one server, all classes together.
    utilisation: float

    @property
    def stable(self) -> tuple[bool, ...]:
        return tuple(queue.stable for queue in self.classes)

    @property
    def wait_mean(self) -> tuple[float, ...]:
        return tuple(queue.wait_mean for queue in self.classes)

    @property
    def wait_probability(self) -> tuple[float, ...]:
        return tuple(queue.wait_probability for queue in self.classes)

    @property
    def sojourn_mean(self) -> tuple[float, ...]:
        return tuple(queue.sojourn_mean for queue in self.classes)

    def wait_quantile(self, q: float) -> tuple[float, ...]:
        return tuple(queue.wait_quantile(q) for queue in self.classes)


def _rates(arrival_rates: Sequence[float]) -> tuple[float, ...]:
    if not arrival_rates:
        raise InvalidOption("arrival_rates must name at least one class, got none")
    return tuple(checks.positive(f"arrival_rates[{i}]", rate) for i, rate in enumerate(arrival_rates))


def priority_mmc(arrival_rates: Sequence[float], mean_service_s: float, servers: int) -> Classes:
    """M/M/c with non-preemptive priorities; all classes have the same service time distribution. Exact.

    `arrival_rates` from the highest priority down; the tuples of the result are in the same order. Means: Cobham 1954;
    tails: Kella and Yechiali 1985, by numerical inversion. A class is unstable if it and the classes above it bring
    more load than the servers can carry.

    >>> classes = priority_mmc(arrival_rates=[0.2, 0.3, 0.3], mean_service_s=1, servers=1)
    >>> [round(wait, 4) for wait in classes.wait_mean]
    [1.0, 2.0, 8.0]
    """
    rates = _rates(arrival_rates)
    checks.positive("mean_service_s", mean_service_s)
    checks.whole("servers", servers)
    speed = servers / mean_service_s
    classes: list[Queue] = []
    higher = 0.0
    total = sum(rates) / speed
    delayed = erlang_c(total * servers, servers) if total < 1 else 1.0
    for rate in rates:
        above, upto = higher / speed, (higher + rate) / speed
        if upto >= 1:
            classes.append(unstable(total))
        else:
            wait = delayed / speed / ((1 - above) * (1 - upto))
            tail = _delayed_tail(delayed, speed, higher, speed * (1 - upto))
            classes.append(Queue(total, True, wait, delayed, wait + mean_service_s, _tail=tail))
        higher += rate
    return Classes(tuple(classes), total)


def _delayed_tail(delayed: float, speed: float, higher: float, drain: float) -> Callable[[float], float]:
    """t -> P(W > t) of one class: the work ahead is exponential with rate `drain`; each job of a higher class that
    arrives during the wait adds a busy period."""

    def busy(s: complex) -> complex:
        b = higher + speed + s
        return (b - (b * b - 4 * higher * speed) ** 0.5) / (2 * higher)

    def wait(s: complex) -> complex:
        x = s + higher * (1 - busy(s)) if higher else s
        return 1 - delayed + delayed * drain / (drain + x)

    return tail_of(wait) if higher else lambda t: delayed * math.exp(-drain * t)


def priority_mg1(
    arrival_rates: Sequence[float], mean_services_s: Sequence[float], second_moments: Sequence[float]
) -> Classes:
    """M/G/1 with non-preemptive priorities. Means are exact (Cobham 1954).

    One entry per class in each argument, from the highest priority down; `second_moments` are E[S²] in s². Tails:
    Takács 1964, for gamma service times.

    >>> classes = priority_mg1([0.2, 0.3, 0.3], mean_services_s=[1, 1, 1], second_moments=[2, 2, 2])
    >>> [round(wait, 4) for wait in classes.wait_mean]
    [1.0, 2.0, 8.0]
    """
    rates = _rates(arrival_rates)
    if not len(rates) == len(mean_services_s) == len(second_moments):
        raise InvalidOption(
            "arrival_rates, mean_services_s and second_moments must have one entry per class, "
            f"got {len(rates)}, {len(mean_services_s)} and {len(second_moments)}"
        )
    for i, (mean, second) in enumerate(zip(mean_services_s, second_moments, strict=True)):
        checks.positive(f"mean_services_s[{i}]", mean)
        if second < mean * mean * (1 - 1e-12):
            raise InvalidOption(
                f"second_moments[{i}] must be at least the squared mean {mean * mean:g} s², got {second!r}"
            )
    loads = [rate * mean for rate, mean in zip(rates, mean_services_s, strict=True)]
    total = sum(loads)
    classes: list[Queue] = []
    services = [
        gamma_transform(mean, max(0.0, second / mean**2 - 1))
        for mean, second in zip(mean_services_s, second_moments, strict=True)
    ]
    for k, mean in enumerate(mean_services_s):
        above, upto = sum(loads[:k]), sum(loads[: k + 1])
        if upto >= 1:
            classes.append(unstable(total))
            continue
        residual = _residual(rates, mean_services_s, second_moments, total)
        wait = residual / ((1 - above) * (1 - upto))
        probability = min(1.0, total)
        tail = tail_of(_priority_transform(rates, mean_services_s, services, k, total))
        classes.append(Queue(total, True, wait, probability, wait + mean, _tail=tail))
    return Classes(tuple(classes), total)


def _residual(rates: Sequence[float], means: Sequence[float], seconds: Sequence[float], total: float) -> float:
    """Mean remaining work (s) of the job in service. With a total load of 1 or more, the lower classes use all the
    capacity that the higher classes leave."""
    if total < 1:
        return sum(rate * second for rate, second in zip(rates, seconds, strict=True)) / 2
    served, work = 0.0, 0.0
    for rate, mean, second in zip(rates, means, seconds, strict=True):
        share = min(rate * mean, 1 - served)
        served += share
        work += share / mean * second / 2
    return work


def _priority_transform(
    rates: Sequence[float], means: Sequence[float], services: Sequence[Transform], k: int, total: float
) -> Transform:
    """Laplace transform of the wait of class k (Takács 1964); the busy period of the classes above is a fixed point."""
    higher = sum(rates[:k])
    idle = max(0.0, 1 - total)
    carried = _carried(rates, means)

    def wait(s: complex) -> complex:
        busy = complex(0.0)
        for _ in range(10_000 if higher else 0):
            x = s + higher * (1 - busy)
            following = sum((rates[i] * services[i](x) for i in range(k)), complex(0.0)) / higher
            if abs(following - busy) < 1e-14:
                break
            busy = following
        z = s + higher * (1 - busy)
        lower = sum((carried[i] * (1 - services[i](z)) for i in range(k + 1, len(rates))), complex(0.0))
        return (idle * z + lower) / (s - rates[k] + rates[k] * services[k](z))

    return wait


def _carried(rates: Sequence[float], means: Sequence[float]) -> list[float]:
    """The rate (jobs/s) at which each class is served in the long run."""
    left, carried = 1.0, list[float]()
    for rate, mean in zip(rates, means, strict=True):
        share = min(rate * mean, left)
        left -= share
        carried.append(share / mean)
    return carried


def dedicated_mmc(arrival_rates: Sequence[float], mean_service_s: float, servers: Sequence[int]) -> Classes:
    """One M/M/c queue per class, each with its own servers that do not help the other classes. Exact.

    >>> [round(wait, 3) for wait in dedicated_mmc([0.5, 0.8], mean_service_s=1, servers=[1, 1]).wait_mean]
    [1.0, 4.0]
    """
    rates = _rates(arrival_rates)
    if len(rates) != len(servers):
        raise InvalidOption(f"servers must have one entry per class ({len(rates)}), got {len(servers)}")
    classes = tuple(mmc(rate, mean_service_s, own) for rate, own in zip(rates, servers, strict=True))
    return Classes(classes, sum(rates) * mean_service_s / sum(servers))
