"""Numbers and times as a person reads them."""

import math


def duration(seconds: float) -> str:
    """`40 ms`, `12 s`, `3.5 min`, `7.2 h`, `4.1 days`."""
    for limit, size, unit in ((1, 1e-3, "ms"), (120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86_400:,.3g} days"


def number(value: float, digits: int = 3) -> str:
    """`digits` significant digits, or all digits of a number of 1,000 or more: a large number has no exponent."""
    return f"{value:,.0f}" if 999.5 <= abs(value) < math.inf else f"{value:.{digits}g}"
