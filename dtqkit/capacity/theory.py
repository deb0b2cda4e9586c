"""Exact queueing formulas, where there are any. Rates in jobs/s, times in seconds, waits in the queue only.

`mmc` (Erlang C), `mdc` (Crommelin, Franx), `mg1` (Pollaczek and Khinchine), `priority_mmc` and `priority_mg1`
(Cobham; non-preemptive), `dedicated_mmc`, `md1_with_crashes` (Gaver; Welch) are exact; `mgc`
(Allen and Cunneen) is not, and says so. Where the load is 1 or more every wait is infinite.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dtqkit.capacity import checks
from dtqkit.capacity.deterministic import md_mean, md_states, md_tail
from dtqkit.capacity.inversion import Transform, quantile_of, tail_of


@dataclass(frozen=True)
class Queue:
    """One class of jobs before its servers."""

    utilisation: float  #: ρ, of one server
    stable: bool
    wait_mean: float  #: s; infinite if not stable
    wait_probability: float  #: that a job waits at all
    sojourn_mean: float  #: s, wait and service
    approximate: bool = False
    _tail: Callable[[float], float] = field(default=lambda _: 1.0, repr=False)

    def wait_tail(self, t: float) -> float:
        """P(W > t)."""
        checks.not_negative("t", t)
        if not self.stable:
            return 1.0
        return self._tail(t) if t > 0 else self.wait_probability

    def wait_quantile(self, q: float) -> float:
        """Seconds that a share q of the jobs does not exceed."""
        checks.between_0_and_1("q", q)
        if not self.stable:
            return math.inf
        if self.wait_probability <= 1 - q:
            return 0.0
        return quantile_of(self._tail, q, self.wait_mean)

    def _repr_html_(self) -> str:
        kind = "approximate" if self.approximate else "exact"
        state = "" if self.stable else ", <b>unstable</b>"
        return (
            f"ρ = {self.utilisation:.4f}{state}, Wq = {self.wait_mean:.4f} s, "
            f"P(W&gt;0) = {self.wait_probability:.4f} ({kind})"
        )


@dataclass(frozen=True)
class Classes:
    """Several classes, from the highest priority down; every attribute is a tuple, one entry a class."""

    classes: tuple[Queue, ...]
    utilisation: float  #: of one server, all classes together

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


def _unstable(utilisation: float) -> Queue:
    return Queue(utilisation, False, math.inf, 1.0, math.inf)


def erlang_c(load: float, servers: int) -> float:
    """P(all servers busy) for a load in Erlang below `servers`, by the recursion of Erlang B."""
    blocked = 1.0
    for k in range(1, servers + 1):
        blocked = load * blocked / (k + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


def mmc(arrival_rate: float, mean_service_s: float, servers: int) -> Queue:
    """M/M/c: Poisson arrivals, exponential service, c servers, first come first served (Erlang 1917)."""
    checks.positive("arrival_rate", arrival_rate)
    checks.positive("mean_service_s", mean_service_s)
    checks.whole("servers", servers)
    load = arrival_rate * mean_service_s
    if load >= servers:
        return _unstable(load / servers)
    delayed = erlang_c(load, servers)
    drain = servers / mean_service_s - arrival_rate
    wait = delayed / drain
    return Queue(
        load / servers, True, wait, delayed, wait + mean_service_s, _tail=lambda t: delayed * math.exp(-drain * t)
    )


def mdc(arrival_rate: float, mean_service_s: float, servers: int) -> Queue:
    """M/D/c: every job takes the same time (mean: Crommelin 1932; tail: Franx 2001)."""
    checks.positive("arrival_rate", arrival_rate)
    checks.positive("mean_service_s", mean_service_s)
    checks.whole("servers", servers)
    load = arrival_rate * mean_service_s
    if load >= servers:
        return _unstable(load / servers)
    states, decay = md_states(load, servers)
    wait = md_mean(load, servers, states, decay) * mean_service_s
    unit_tail = md_tail(load, servers, states, decay)

    def tail(t: float) -> float:
        return unit_tail(t / mean_service_s)

    return Queue(load / servers, True, wait, tail(0.0), wait + mean_service_s, _tail=tail)


def _gamma_transform(mean: float, scv: float) -> Transform:
    """E[exp(-s S)] of gamma service; scv 0 is a constant, 1 the exponential."""
    if scv < 1e-9:
        return lambda s: _exp(-s * mean)
    return lambda s: (1 + s * mean * scv) ** (-1 / scv)


def _exp(s: complex) -> complex:
    return math.exp(s.real) * complex(math.cos(s.imag), math.sin(s.imag))


def mg1(arrival_rate: float, mean_service_s: float, scv: float) -> Queue:
    """M/G/1 (Pollaczek 1930, Khinchine 1932). The mean holds for every service distribution of that mean and
    scv; two moments do not fix a quantile, so quantiles are those of gamma service (exact for M/M/1, M/D/1)."""
    checks.positive("arrival_rate", arrival_rate)
    checks.positive("mean_service_s", mean_service_s)
    checks.not_negative("scv", scv)
    load = arrival_rate * mean_service_s
    if load >= 1:
        return _unstable(load)
    if scv == 0:
        return mdc(arrival_rate, mean_service_s, 1)
    if scv == 1:
        return mmc(arrival_rate, mean_service_s, 1)
    wait = load * mean_service_s * (1 + scv) / 2 / (1 - load)
    service = _gamma_transform(mean_service_s, scv)
    tail = tail_of(lambda s: (1 - load) * s / (s - arrival_rate * (1 - service(s))))
    return Queue(load, True, wait, load, wait + mean_service_s, _tail=tail)


def mgc(arrival_rate: float, mean_service_s: float, scv: float, servers: int) -> Queue:
    """M/G/c by Allen and Cunneen: the M/M/c wait times (1 + scv)/2. **Approximate**: up to 18 % off in the
    cases it was held against here (20 servers, constant service, ρ = 0.7); exact for c = 1 (mean) and scv = 1."""
    checks.not_negative("scv", scv)
    like = mmc(arrival_rate, mean_service_s, servers)
    if not like.stable:
        return Queue(like.utilisation, False, math.inf, 1.0, math.inf, approximate=True)
    wait = like.wait_mean * (1 + scv) / 2
    rate = like.wait_probability / wait if wait else math.inf
    return Queue(
        like.utilisation,
        True,
        wait,
        like.wait_probability,
        wait + mean_service_s,
        approximate=True,
        _tail=lambda t: like.wait_probability * math.exp(-rate * t),
    )


def _rates(arrival_rates: Sequence[float]) -> tuple[float, ...]:
    if not arrival_rates:
        raise ValueError("arrival_rates must name at least one class, got none")
    return tuple(checks.positive(f"arrival_rates[{i}]", rate) for i, rate in enumerate(arrival_rates))


def priority_mmc(arrival_rates: Sequence[float], mean_service_s: float, servers: int) -> Classes:
    """M/M/c with non-preemptive priorities and one service time for all (means: Cobham 1954; tails: Kella and
    Yechiali 1985, by inversion)."""
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
            classes.append(_unstable(total))
        else:
            wait = delayed / speed / ((1 - above) * (1 - upto))
            tail = _delayed_tail(delayed, speed, higher, speed * (1 - upto))
            classes.append(Queue(total, True, wait, delayed, wait + mean_service_s, _tail=tail))
        higher += rate
    return Classes(tuple(classes), total)


def _delayed_tail(delayed: float, speed: float, higher: float, drain: float) -> Callable[[float], float]:
    """The work ahead is exponential at rate `drain`; each higher job that comes meanwhile adds a busy period."""

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
    """M/G/1 with non-preemptive priorities (Cobham 1954; tails as of gamma service: Takács 1964).
    Second moments E[S²] in s²."""
    rates = _rates(arrival_rates)
    if not len(rates) == len(mean_services_s) == len(second_moments):
        raise ValueError(
            "arrival_rates, mean_services_s and second_moments must have one entry a class, "
            f"got {len(rates)}, {len(mean_services_s)} and {len(second_moments)}"
        )
    for i, (mean, second) in enumerate(zip(mean_services_s, second_moments, strict=True)):
        checks.positive(f"mean_services_s[{i}]", mean)
        if second < mean * mean * (1 - 1e-12):
            raise ValueError(
                f"second_moments[{i}] must be at least the squared mean {mean * mean:g} s², got {second!r}"
            )
    loads = [rate * mean for rate, mean in zip(rates, mean_services_s, strict=True)]
    total = sum(loads)
    classes: list[Queue] = []
    services = [
        _gamma_transform(mean, max(0.0, second / mean**2 - 1))
        for mean, second in zip(mean_services_s, second_moments, strict=True)
    ]
    for k, mean in enumerate(mean_services_s):
        above, upto = sum(loads[:k]), sum(loads[: k + 1])
        if upto >= 1:
            classes.append(_unstable(total))
            continue
        residual = _residual(rates, mean_services_s, second_moments, total)
        wait = residual / ((1 - above) * (1 - upto))
        probability = min(1.0, total)
        tail = tail_of(_priority_transform(rates, mean_services_s, services, k, total))
        classes.append(Queue(total, True, wait, probability, wait + mean, _tail=tail))
    return Classes(tuple(classes), total)


def _residual(rates: Sequence[float], means: Sequence[float], seconds: Sequence[float], total: float) -> float:
    """Work left of the job in service; where lower classes are without end they fill all that is left over."""
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
    """Takács' transform of class k's wait, with the busy period of the classes above as a fixed point."""
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
    """The rate of each class that is served in the long run."""
    left, carried = 1.0, list[float]()
    for rate, mean in zip(rates, means, strict=True):
        share = min(rate * mean, left)
        left -= share
        carried.append(share / mean)
    return carried


def dedicated_mmc(arrival_rates: Sequence[float], mean_service_s: float, servers: Sequence[int]) -> Classes:
    """Each class before servers of its own that help nobody: so many M/M/c queues side by side."""
    rates = _rates(arrival_rates)
    if len(rates) != len(servers):
        raise ValueError(f"servers must have one entry a class ({len(rates)}), got {len(servers)}")
    classes = tuple(mmc(rate, mean_service_s, own) for rate, own in zip(rates, servers, strict=True))
    return Classes(classes, sum(rates) * mean_service_s / sum(servers))


def md1_with_crashes(arrival_rate: float, service_s: float, mtbf_s: float, mttr_s: float) -> Queue:
    """M/D/1 whose server breaks down, busy or idle, and is repaired, both exponential; a service that is cut short
    starts again from its beginning. `wait_mean` is the sojourn less one service. No quantiles.

    A job takes its server for a completion time C (Gaver 1962, "A waiting line with interrupted service"); whoever
    finds the system empty may find the server down and takes it for longer, C0 (Welch 1964, "On a generalized M/G/1
    queuing process in which the first customer of each busy period receives exceptional service").
    """
    rate, s = checks.positive("arrival_rate", arrival_rate), checks.positive("service_s", service_s)
    m, r = checks.positive("mtbf_s", mtbf_s), checks.positive("mttr_s", mttr_s)
    hit, whole = -math.expm1(-s / m), math.exp(-s / m)
    if whole < 1e-150:  # no attempt is ever whole
        return _unstable(math.inf)
    # An attempt that is cut short: its mean, and its mean square.
    if s / m < 1e-4:  # where the formulas lose their digits, their series
        cut, cut_square = s * (1 / 2 - s / m / 12), s**2 * (1 / 3 - s / m / 12)
    else:
        cut, cut_square = m - s * whole / hit, 2 * m**2 - (s**2 + 2 * m * s) * whole / hit
    times = hit / whole  # how often a job is cut short
    mean = times * (cut + r) + s
    variance = times * (cut_square - cut**2 + r**2) + times / whole * (cut + r) ** 2
    square = variance + mean**2
    load = rate * mean
    if load >= 1:
        return _unstable(load)
    down = (1 / m) / (rate + 1 / m + 1 / r)  # the server, when a job comes after an idle time that began with it up
    first = mean + down * r
    first_square = square + 2 * mean * down * r + down * 2 * r**2
    empty = (1 - load) / (1 - load + rate * first)
    queued = rate * square / (2 * (1 - load)) + rate * (first_square - square) / (2 * (1 - load + rate * first))
    sojourn = queued + empty * first + (1 - empty) * mean
    unknown = math.nan
    return Queue(load, True, sojourn - s, unknown, sojourn, _tail=lambda _: unknown)


def required_servers(
    arrival_rate: float,
    mean_service_s: float,
    *,
    wait_p95_s: float | None = None,
    max_utilisation: float = 1.0,
    scv: float = 1.0,
) -> int:
    """The fewest servers whose utilisation is below 1 and at most `max_utilisation`, and, if asked for, whose
    p95 of the wait is at most that (M/M/c; Allen-Cunneen for another scv)."""
    checks.positive("arrival_rate", arrival_rate)
    checks.positive("mean_service_s", mean_service_s)
    if not 0 < max_utilisation <= 1:
        raise ValueError(f"max_utilisation must be above 0 and at most 1, got {max_utilisation!r}")
    load = arrival_rate * mean_service_s
    servers = max(1, math.ceil(load / max_utilisation - 1e-9))
    servers += load >= servers
    if wait_p95_s is not None:
        checks.not_negative("wait_p95_s", wait_p95_s)
        while mgc(arrival_rate, mean_service_s, scv, servers).wait_quantile(0.95) > wait_p95_s:
            servers += 1
    return servers


def backlog_slope(arrival_rate: float, mean_service_s: float, servers: int) -> float:
    """Jobs a second by which an unstable backlog grows; 0 if it does not."""
    return max(0.0, arrival_rate - servers / mean_service_s)


def drain_s(backlog: float, arrival_rate: float, mean_service_s: float, servers: int) -> float:
    """Seconds until a backlog is gone while jobs keep coming; infinite if they come faster than they are done."""
    spare = servers / mean_service_s - arrival_rate
    return backlog / spare if spare > 0 else math.inf
