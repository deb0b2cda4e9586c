"""What comes first when two things happen at the same instant; both engines follow it.

Each kind has a rank and each event a place within its kind (a job's or a worker's number), so the order never
depends on how an engine is built. A job that ends at an instant frees its slot for one that arrives then.
"""

END, DUE, DETECTED, DOWN, UP, LOOK, STARTED, ARRIVAL = range(1, 9)

BITS = 32
MASK = (1 << BITS) - 1


def place(kind: int, number: int) -> int:
    """Smaller goes first. (SimPy's own immediate events have 0 and 1, and so go before all of these.)"""
    return kind << BITS | number
