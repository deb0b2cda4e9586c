"""Numerical inversion of Laplace transforms by Euler summation (Abate and Whitt, ORSA J. Computing 7, 1995)."""

import math
from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
from scipy.optimize import brentq

from dtqkit.capacity.checks import between_0_and_1

#: s -> the integral of exp(-s·t) f(t) over t > 0.
Transform: TypeAlias = Callable[[complex], complex]

#: A of the paper: the discretisation error is about exp(-A).
DISCRETISATION: Final = 24.0
#: n and m of the paper: terms summed, and partial sums averaged.
TERMS: Final = 40
AVERAGED: Final = 14
_WEIGHTS: Final = np.array([math.comb(AVERAGED, k) for k in range(AVERAGED + 1)]) / 2.0**AVERAGED


def invert(transform: Transform, t: float) -> float:
    """f(t) for the transform of f, t > 0."""
    half = DISCRETISATION / (2 * t)
    terms = [transform(complex(half, k * math.pi / t)).real for k in range(TERMS + AVERAGED + 1)]
    signed = np.array(terms) * (-1.0) ** np.arange(len(terms))
    signed[0] /= 2
    partial = np.cumsum(signed)[TERMS:]
    return float(math.exp(DISCRETISATION / 2) / t * (partial @ _WEIGHTS))


def tail_of(wait: Transform) -> Callable[[float], float]:
    """t -> P(W > t), from the Laplace-Stieltjes transform E[exp(-s·W)] of a wait."""

    def tail(t: float) -> float:
        return min(1.0, max(0.0, invert(lambda s: (1 - wait(s)) / s, t)))

    return tail


def quantile_of(tail: Callable[[float], float], q: float, scale: float) -> float:
    """The t > 0 with P(W > t) = 1 - q; the search starts at `scale`, a guess of its order of magnitude."""
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
