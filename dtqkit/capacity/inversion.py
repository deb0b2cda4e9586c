"""From a Laplace transform back to a tail: Euler summation (Abate and Whitt, ORSA J. Computing 7, 1995)."""

import math
from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq

from dtqkit.capacity.checks import between_0_and_1

Transform = Callable[[complex], complex]

DISCRETISATION = 24.0  #: A: an error of about exp(-A)
TERMS, AVERAGED = 40, 14
_WEIGHTS = np.array([math.comb(AVERAGED, k) for k in range(AVERAGED + 1)]) / 2.0**AVERAGED


def invert(transform: Transform, t: float) -> float:
    """The function with this transform at t > 0."""
    half = DISCRETISATION / (2 * t)
    terms = [transform(complex(half, k * math.pi / t)).real for k in range(TERMS + AVERAGED + 1)]
    signed = np.array(terms) * (-1.0) ** np.arange(len(terms))
    signed[0] /= 2
    partial = np.cumsum(signed)[TERMS:]
    return float(math.exp(DISCRETISATION / 2) / t * (partial @ _WEIGHTS))


def tail_of(wait: Transform) -> Callable[[float], float]:
    """t -> P(W > t), for the Laplace-Stieltjes transform of a wait."""

    def tail(t: float) -> float:
        return min(1.0, max(0.0, invert(lambda s: (1 - wait(s)) / s, t)))

    return tail


def quantile_of(tail: Callable[[float], float], q: float, scale: float) -> float:
    """The t where P(W > t) = 1 - q; `scale` is a first guess at the order of magnitude."""
    between_0_and_1("q", q)
    high = scale
    while tail(high) > 1 - q:
        high *= 2
    low = high / 2
    while tail(low) <= 1 - q:
        low /= 2
        if low < 1e-12 * scale:
            return 0.0
    return float(brentq(lambda t: tail(t) - (1 - q), low, high, xtol=1e-12 * scale, rtol=1e-10))
