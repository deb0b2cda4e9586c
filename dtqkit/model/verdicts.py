"""What a task raises to say itself how its attempt ends: RetryAfter, Snooze and GiveUp.

@queue.task(max_attempts=5)
def pull(url: str) -> None:
    answer = httpx.get(url)
    if answer.status_code == 429:
        raise RetryAfter(float(answer.headers["Retry-After"]))
    if answer.status_code == 404:
        raise GiveUp(f"{url} does not exist")
"""

from __future__ import annotations

from typing import Any, Final

from dtqkit.model.errors import DtqError, InvalidOption
from dtqkit.model.values import shown

#: Longest time to the next attempt, in seconds: that of `delay_s`.
MAX_WAIT_S: Final = 366 * 86_400


class Verdict(DtqError):
    """The base of the three. An `except Exception` in the task catches it too: raise it again there."""

    code = "verdict"


class RetryAfter(Verdict):
    """The attempt failed; the next one, if any is left, starts after `seconds`, whatever the task's backoff is."""

    code = "retry_after"

    def __init__(self, seconds: float, reason: str = "") -> None:
        self.seconds: Final[float] = _checked("RetryAfter", seconds)
        super().__init__(reason or f"to be tried again after {seconds:.15g} s")


class Snooze(Verdict):
    """Not now: the job waits for `seconds` and then runs again. This counts as no failure."""

    code = "snooze"

    def __init__(self, seconds: float, reason: str = "") -> None:
        self.seconds: Final[float] = _checked("Snooze", seconds)
        super().__init__(reason)


class GiveUp(Verdict):
    """The job fails at once, however many attempts are left."""

    code = "give_up"

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or "the task gave up")


def _checked(name: str, seconds: Any) -> float:
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not number or not 0 <= seconds <= MAX_WAIT_S:
        raise InvalidOption(f"{name}: seconds is {shown(seconds)}; it is a number of seconds, from 0 to {MAX_WAIT_S:,}")
    return float(seconds)
