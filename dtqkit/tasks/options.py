"""Options of a task's jobs, and of one call; every value is checked when it is given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias, cast, get_args

import msgspec

from dtqkit.model.errors import InvalidOption, TaskDefinitionError
from dtqkit.model.jobs import PRIORITIES, Priority
from dtqkit.model.values import shown

Isolation: TypeAlias = Literal["auto", "process", "thread"]
ISOLATIONS: Final[tuple[Isolation, ...]] = get_args(Isolation)

MAX_TIMEOUT_S: Final = 86_400.0
MAX_DELAY_S: Final = 366 * 86_400.0
MAX_WAIT_S: Final = 60.0
MAX_ATTEMPTS: Final = 100
MAX_TAGS: Final = 20


class TaskOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a task's jobs run, by default."""

    priority: Priority = "medium"
    #: Attempts that may fail before the job does.
    max_attempts: int = 3
    #: Seconds that one attempt may run.
    timeout_s: float = 300.0
    #: Base and ceiling of the retry delay, which doubles with each failure and is drawn with full jitter.
    backoff_s: float = 1.0
    backoff_max_s: float = 600.0
    #: Of a `def`: `auto` is a child process where the function can be imported, else a thread. An `async def`
    #: runs on the worker's loop.
    isolation: Isolation = "auto"
    #: Attempts that may lose their worker before the job fails.
    max_losses: int = 3

    def __post_init__(self) -> None:
        try:
            _check_choice("priority", self.priority, PRIORITIES)
            _check_choice("isolation", self.isolation, ISOLATIONS)
            _check_count("max_attempts", self.max_attempts, MAX_ATTEMPTS)
            _check_count("max_losses", self.max_losses, MAX_ATTEMPTS)
            _check_seconds("timeout_s", self.timeout_s, MAX_TIMEOUT_S, above_zero=True)
            _check_seconds("backoff_s", self.backoff_s, MAX_TIMEOUT_S)
            _check_seconds("backoff_max_s", self.backoff_max_s, MAX_TIMEOUT_S)
        except InvalidOption as error:
            raise TaskDefinitionError(str(error)) from None


class CallOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of one call; None: the task's option applies. Raises InvalidOption."""

    priority: Priority | None = None
    #: Seconds before it may start.
    delay_s: float = 0.0
    #: The same key with the same payload gives the first job again.
    idempotency_key: str | None = None
    max_attempts: int | None = None
    timeout_s: float | None = None
    tags: tuple[str, ...] = ()
    #: Seconds for which a submit is retried while MongoDB does not accept it; None: DTQ_SUBMIT_WAIT_S.
    wait_s: float | None = None

    def __post_init__(self) -> None:
        _check_seconds("delay_s", self.delay_s, MAX_DELAY_S)
        if self.priority is not None:
            _check_choice("priority", self.priority, PRIORITIES)
        if self.max_attempts is not None:
            _check_count("max_attempts", self.max_attempts, MAX_ATTEMPTS)
        if self.timeout_s is not None:
            _check_seconds("timeout_s", self.timeout_s, MAX_TIMEOUT_S, above_zero=True)
        if self.wait_s is not None:
            _check_seconds("wait_s", self.wait_s, MAX_WAIT_S)
        if self.idempotency_key is not None:
            _check_text("idempotency_key", self.idempotency_key, 200)
        if type(self.tags) is not tuple or len(self.tags) > MAX_TAGS:
            raise InvalidOption(f"tags is {shown(self.tags)}; it is a tuple of at most {MAX_TAGS} texts")
        for tag in self.tags:
            _check_text("a tag", tag, 100)


def options_of(name: str, options: Mapping[str, Any]) -> TaskOptions:
    """The options given to task `name`; None: not given. Raises TaskDefinitionError, naming the option."""
    given = {key: value for key, value in options.items() if value is not None}
    if unknown := given.keys() - set(TaskOptions.__struct_fields__):
        known = ", ".join(TaskOptions.__struct_fields__)
        raise TaskDefinitionError(f"{name}: there is no option {min(unknown)!r}; there are {known}")
    try:
        return TaskOptions(**given)
    except TaskDefinitionError as error:
        raise TaskDefinitionError(f"{name}: {error}") from None


def _check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InvalidOption(f"{name} is {shown(value)}; it is one of {', '.join(allowed)}")


def _check_count(name: str, value: object, most: int) -> None:
    if type(value) is not int or not 1 <= value <= most:
        raise InvalidOption(f"{name} is {shown(value)}; it is an int from 1 to {most}")


def _check_seconds(name: str, value: object, most: float, *, above_zero: bool = False) -> None:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not fits or not 0 <= cast("float", value) <= most or (above_zero and value == 0):
        least = "more than 0" if above_zero else "0"
        raise InvalidOption(f"{name} is {shown(value)}; it is a number of seconds, from {least} to {most:,.0f}")


def _check_text(name: str, value: object, most: int) -> None:
    if not isinstance(value, str) or not 1 <= len(value) <= most:
        raise InvalidOption(f"{name} is {shown(value)}; it is a text of 1 to {most} characters")
