"""M/D/c: exact mean and tail of the wait. Times are in units of the service time; `load` is in Erlang."""

import math
from collections.abc import Callable

import numpy as np
from scipy.special import gammainc, gammaln

from dtqkit.capacity.distributions import Floats


def _poisson(mean: float, n: int) -> Floats:
    """P(N = 0), …, P(N = n - 1) of a Poisson variable N, shape (n,)."""
    j = np.arange(n, dtype=np.float64)
    if mean <= 0:
        return (j == 0).astype(np.float64)
    return np.exp(j * math.log(mean) - mean - gammaln(j + 1))


def _decay(load: float, servers: int) -> float:
    """σ < 1, the limit of P(n + 1 jobs) / P(n jobs): 1/z for the root z > 1 of z^c = exp(a (z - 1))."""
    low, high = 1.0 + 1e-12, 2.0
    while servers * math.log(high) - load * (high - 1) > 0:
        high *= 2
    low = servers / load if servers / load < high else low  # the left side is greatest there
    for _ in range(200):
        middle = (low + high) / 2
        if servers * math.log(middle) - load * (middle - 1) > 0:
            low = middle
        else:
            high = middle
    return 1 / low


def md_states(load: float, servers: int) -> tuple[Floats, float]:
    """P(0 jobs), …, P(J jobs) in the system, shape (J + 1,), and the ratio σ of successive probabilities beyond J.

    Crommelin 1932: one service time later, all jobs then in service have left and a Poisson number has arrived. Beyond
    J = 8c + 60 the distribution is geometric to machine precision.
    """
    last = 8 * servers + 60
    sigma = _decay(load, servers)
    come = _poisson(load, last + 2)
    matrix = np.zeros((last + 1, last + 1))
    for i in range(last + 1):
        least = max(0, i - servers)
        matrix[least:, i] += come[: last + 1 - least]
    for i in range(last + 1, last + servers + 1):
        least = i - servers
        matrix[least:, last] += sigma ** (i - last) * come[: last + 1 - least]
    matrix -= np.eye(last + 1)
    matrix[last] = 1.0
    matrix[last, last] += sigma / (1 - sigma)
    right = np.zeros(last + 1)
    right[last] = 1.0
    states: Floats = np.linalg.solve(matrix, right).astype(np.float64)
    return states, sigma


def md_mean(load: float, servers: int, states: Floats, sigma: float) -> float:
    """Mean wait, from the mean queue length by Little's law. `states` and `sigma` as from `md_states`."""
    last = len(states) - 1
    queued = float(np.arange(1, last - servers + 1) @ states[servers + 1 :])
    beyond = states[last] * sigma / (1 - sigma)
    queued += beyond * (last - servers + 1 / (1 - sigma))
    return float(queued / load)


def md_tail(load: float, servers: int, states: Floats, sigma: float) -> Callable[[float], float]:
    """x -> P(W > x service times) (Franx 2001). All terms are positive, so no precision is lost by cancellation."""
    last = len(states) - 1
    more = np.append(np.cumsum(states[::-1])[::-1][1:], 0.0) + states[last] * sigma / (1 - sigma)  # P(N > n)

    def queued_more_than(m: int) -> Floats:
        """P(queue length > 0), …, P(queue length > m), shape (m + 1,)."""
        n = servers + np.arange(m + 1)
        values: Floats = more[np.minimum(n, last)]
        return values * np.power(sigma, np.maximum(0, n - last), dtype=np.float64)

    def tail(x: float) -> float:
        k = math.floor(x) + 1
        terms = k * servers
        come = _poisson(load * (k - x), terms)
        short = float(come @ queued_more_than(terms - 1)[::-1])
        return min(1.0, max(0.0, short) + float(gammainc(terms, load * (k - x))))

    return tail
