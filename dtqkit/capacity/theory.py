"""Queueing formulas. Rates in jobs/s, times in seconds; a wait is the time in the queue only.

Exact: `mmc` (Erlang C), `mdc` (Crommelin, Franx), `mg1` (Pollaczek and Khinchine), `md1_with_crashes` (Gaver; Welch).
Approximate, and marked so: `mgc` (Allen and Cunneen). At a utilisation of 1 or more, waits are infinite and `stable` is
False. A parameter out of range raises InvalidOption. `priority_theory` has the formulas for several classes of jobs.
"""

import math
from collections.abc import Callable

import msgspec

from dtqkit.capacity import checks
from dtqkit.capacity.deterministic import md_mean, md_states, md_tail
from dtqkit.capacity.inversion import Transform, quantile_of, tail_of
from dtqkit.model.errors import InvalidOption


class Queue(msgspec.Struct, frozen=True, eq=False):
    """What a formula gives for one class of jobs."""

    #: ρ: the share of time that a server is busy, or the load per server if that is 1 or more.
    utilisation: float
    stable: bool
    #: Seconds; infinite if not stable.
    wait_mean: float
    #: P(W > 0): the share of jobs that wait.
    wait_probability: float
    #: Seconds: wait and service.
    sojourn_mean: float
    approximate: bool = False
    #: t -> P(W > t) for t > 0.
    _tail: Callable[[float], float] = lambda _: 1.0

    def wait_tail(self, t: float) -> float:
        """P(W > t), t in seconds."""
        checks.not_negative("t", t)
        if not self.stable:
            return 1.0
        return self._tail(t) if t > 0 else self.wait_probability

    def wait_quantile(self, q: float) -> float:
        """The q-quantile of the wait (s): a share q of the jobs waits at most this long. 0 < q < 1."""
        checks.between_0_and_1("q", q)
        if not self.stable:
            return math.inf
        if self.wait_probability <= 1 - q:
            return 0.0
        return quantile_of(self._tail, q, self.wait_mean)

    def __repr__(self) -> str:
        shown = ("utilisation", "stable", "wait_mean", "wait_probability", "sojourn_mean", "approximate")
        return f"Queue({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    def _repr_html_(self) -> str:
        kind = "approximate" if self.approximate else "exact"
        state = "" if self.stable else ", <b>unstable</b>"
        return (
            f"ρ = {self.utilisation:.4f}{state}, Wq = {self.wait_mean:.4f} s, "
            f"P(W&gt;0) = {self.wait_probability:.4f} ({kind})"
        )


def unstable(utilisation: float) -> Queue:
    return Queue(utilisation, False, math.inf, 1.0, math.inf)


def erlang_c(load: float, servers: int) -> float:
    """P(all servers are busy) for a load (Erlang) below `servers` (Erlang 1917), by the recursion of Erlang B."""
    blocked = 1.0
    for k in range(1, servers + 1):
        blocked = load * blocked / (k + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


def mmc(arrival_rate: float, mean_service_s: float, servers: int) -> Queue:
    """M/M/c: Poisson arrivals, exponential service times, c servers, first come first served. Exact (Erlang 1917).

    >>> queue = mmc(arrival_rate=10_000 / 86_400, mean_service_s=30.5, servers=5)
    >>> round(queue.wait_mean, 4), round(queue.wait_quantile(0.95), 4)
    (8.0403, 42.4883)
    """
    checks.positive("arrival_rate", arrival_rate)
    checks.positive("mean_service_s", mean_service_s)
    checks.whole("servers", servers)
    load = arrival_rate * mean_service_s
    if load >= servers:
        return unstable(load / servers)
    delayed = erlang_c(load, servers)
    drain = servers / mean_service_s - arrival_rate
    wait = delayed / drain
    return Queue(
        load / servers, True, wait, delayed, wait + mean_service_s, _tail=lambda t: delayed * math.exp(-drain * t)
    )


def mdc(arrival_rate: float, mean_service_s: float, servers: int) -> Queue:
    """M/D/c: as `mmc`, but each job takes exactly `mean_service_s`. Exact (mean: Crommelin 1932; tail: Franx 2001).

    >>> round(mdc(arrival_rate=0.8, mean_service_s=1, servers=1).wait_mean, 4)
    2.0
    """
    checks.positive("arrival_rate", arrival_rate)
    checks.positive("mean_service_s", mean_service_s)
    checks.whole("servers", servers)
    load = arrival_rate * mean_service_s
    if load >= servers:
        return unstable(load / servers)
    states, decay = md_states(load, servers)
    wait = md_mean(load, servers, states, decay) * mean_service_s
    unit_tail = md_tail(load, servers, states, decay)

    def tail(t: float) -> float:
        return unit_tail(t / mean_service_s)

    return Queue(load / servers, True, wait, tail(0.0), wait + mean_service_s, _tail=tail)


def gamma_transform(mean: float, scv: float) -> Transform:
    """s -> E[exp(-s·S)] of gamma service times; scv 0: constant, 1: exponential."""
    if scv < 1e-9:
        return lambda s: _exp(-s * mean)
    return lambda s: (1 + s * mean * scv) ** (-1 / scv)


def _exp(s: complex) -> complex:
    return math.exp(s.real) * complex(math.cos(s.imag), math.sin(s.imag))


def mg1(arrival_rate: float, mean_service_s: float, scv: float) -> Queue:
    """M/G/1: one server, service times with this mean and scv (Pollaczek 1930, Khinchine 1932).

    Means are exact for each distribution with this mean and scv. Quantiles depend on more than two moments: they are
    those of gamma service times (so exact for M/M/1 and M/D/1).

    >>> round(mg1(arrival_rate=0.8, mean_service_s=1, scv=2).wait_mean, 4)
    6.0
    """
    checks.positive("arrival_rate", arrival_rate)
    checks.positive("mean_service_s", mean_service_s)
    checks.not_negative("scv", scv)
    load = arrival_rate * mean_service_s
    if load >= 1:
        return unstable(load)
    if scv == 0:
        return mdc(arrival_rate, mean_service_s, 1)
    if scv == 1:
        return mmc(arrival_rate, mean_service_s, 1)
    wait = load * mean_service_s * (1 + scv) / 2 / (1 - load)
    service = gamma_transform(mean_service_s, scv)
    tail = tail_of(lambda s: (1 - load) * s / (s - arrival_rate * (1 - service(s))))
    return Queue(load, True, wait, load, wait + mean_service_s, _tail=tail)


def mgc(arrival_rate: float, mean_service_s: float, scv: float, servers: int) -> Queue:
    """M/G/c by Allen and Cunneen: the mean wait of M/M/c, multiplied by (1 + scv)/2. **Approximate.**

    The mean wait is up to 18 % off in the cases that the tests compare (20 servers, constant service times, ρ = 0.7).
    It is exact for scv = 1, and for one server. Quantiles assume an exponential tail.

    >>> queue = mgc(arrival_rate=10_000 / 86_400, mean_service_s=30.5, scv=0.5, servers=5)
    >>> round(queue.wait_mean, 4), queue.approximate
    (6.0302, True)
    """
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


def md1_with_crashes(arrival_rate: float, service_s: float, mtbf_s: float, mttr_s: float) -> Queue:
    """M/D/1 whose server crashes, busy or idle, and is repaired. Exact mean; no quantiles (NaN).

    Time to a crash and repair time are exponential with means `mtbf_s` and `mttr_s`. A service that is cut short is
    repeated in full. `wait_mean` is the sojourn less one service time, so time spent on repeated attempts counts as
    wait.

    A job occupies the server for a completion time C (Gaver 1962, "A waiting line with interrupted service"). A job
    that finds the system empty may find the server down, and then occupies it for a longer time C0 (Welch 1964, "On a
    generalized M/G/1 queuing process in which the first customer of each busy period receives exceptional service").

    >>> round(md1_with_crashes(arrival_rate=0.5, service_s=1, mtbf_s=1e9, mttr_s=1).wait_mean, 4)  # as mdc
    0.5
    """
    rate, s = checks.positive("arrival_rate", arrival_rate), checks.positive("service_s", service_s)
    m, r = checks.positive("mtbf_s", mtbf_s), checks.positive("mttr_s", mttr_s)
    hit, whole = -math.expm1(-s / m), math.exp(-s / m)
    if whole < 1e-150:  # practically no attempt completes
        return unstable(math.inf)
    # The time of an attempt that is cut short: mean, and mean of the square.
    if s / m < 1e-4:  # the series, where the formulas lose precision
        cut, cut_square = s * (1 / 2 - s / m / 12), s**2 * (1 / 3 - s / m / 12)
    else:
        cut, cut_square = m - s * whole / hit, 2 * m**2 - (s**2 + 2 * m * s) * whole / hit
    times = hit / whole  # mean number of crashes during a job
    mean = times * (cut + r) + s
    variance = times * (cut_square - cut**2 + r**2) + times / whole * (cut + r) ** 2
    square = variance + mean**2
    load = rate * mean
    if load >= 1:
        return unstable(load)
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
    """The smallest number of servers with a utilisation below 1 and at most `max_utilisation`.

    With `wait_p95_s`, also with a 95th percentile of the wait of at most that (s): M/M/c, or `mgc` for another scv.

    >>> required_servers(10_000 / 86_400, 30.5, wait_p95_s=5)
    7
    """
    checks.positive("arrival_rate", arrival_rate)
    checks.positive("mean_service_s", mean_service_s)
    if not 0 < max_utilisation <= 1:
        raise InvalidOption(f"max_utilisation must be above 0 and at most 1, got {max_utilisation!r}")
    load = arrival_rate * mean_service_s
    servers = max(1, math.ceil(load / max_utilisation - 1e-9))
    servers += load >= servers
    if wait_p95_s is not None:
        checks.not_negative("wait_p95_s", wait_p95_s)
        while mgc(arrival_rate, mean_service_s, scv, servers).wait_quantile(0.95) > wait_p95_s:
            servers += 1
    return servers
