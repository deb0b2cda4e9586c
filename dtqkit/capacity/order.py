"""The order of events at the same simulated time. Both engines use it, so their results do not depend on the engine.

Each kind of event has a rank, and each event a number within its kind (of a job or a worker). A job that ends frees its
slot before a job that arrives at the same time looks for one.
"""

from typing import Final

#: Kinds of events, by rank: an attempt ends, a job is due, a crash is detected, a worker goes down, a worker comes up,
#: the autoscaler checks, an added worker has started, a job arrives.
END, DUE, DETECTED, DOWN, UP, LOOK, STARTED, ARRIVAL = range(1, 9)

#: The low bits of a place hold the number, the bits above them the kind.
BITS: Final = 32
MASK: Final = (1 << BITS) - 1


def place(kind: int, number: int) -> int:
    """The rank of an event among those at the same time; smaller goes first. SimPy's own events have 0 and 1."""
    return kind << BITS | number
