"""The retry rules of a task: which exceptions are tried again, and after how long. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final, TypeAlias, cast

from msgspec import Meta

from dtqkit.model.errors import InvalidOption
from dtqkit.model.hook_errors import MiddlewareFailed
from dtqkit.model.jobs import SHAPES, Shape
from dtqkit.model.values import shown
from dtqkit.model.verdicts import GiveUp

#: What `retry_on` and `give_up_on` take.
Exceptions: TypeAlias = type[BaseException] | Iterable[type[BaseException]]

_MOST_CLASSES: Final = 50
_LONGEST_NAME: Final = 300
#: Exception classes by their qualified names, as tasks publish them.
Names = Annotated[
    tuple[Annotated[str, Meta(min_length=1, max_length=_LONGEST_NAME)], ...], Meta(max_length=_MOST_CLASSES)
]
Delays = Annotated[tuple[Annotated[float, Meta(ge=0, le=86_400)], ...], Meta(min_length=1, max_length=100)]

_MOST_DELAYS: Final = 100
_LONGEST_S: Final = 86_400


def names_of(option: str, given: object, *, published: bool = True) -> tuple[str, ...]:
    """The qualified names of these exception classes; one class may stand alone. Raises InvalidOption.

    `published`: names are taken as well, as another process has published them.
    """
    many = isinstance(given, list | tuple | set | frozenset)
    found: dict[str, None] = {}
    for one in cast("Iterable[object]", given) if many else (given,):
        if isinstance(one, str) and published and "." in one:
            found[one] = None
        elif isinstance(one, type) and issubclass(one, BaseException):
            found[qualified(one)] = None
        else:
            raise InvalidOption(_no_class(option, cast("object", one)))
    if not found:
        raise InvalidOption(f"{option} is empty: leave it out, or name the exception classes that it is about")
    if len(found) > _MOST_CLASSES:
        raise InvalidOption(f"{option} has {len(found)} classes; at most {_MOST_CLASSES}: name a class that they share")
    if long := next((name for name in found if len(name) > _LONGEST_NAME), None):
        raise InvalidOption(
            f"{option} has a class whose name {long[:60]!r}… has {len(long)} characters; at most {_LONGEST_NAME}, with "
            "its module"
        )
    return tuple(found)


def _no_class(option: str, given: object) -> str:
    kind = cast("type[object]", given if isinstance(given, type) else type(given))
    text = f"the class {kind.__name__}" if kind is given else shown(given)
    cure = f"({kind.__name__},)" if isinstance(given, BaseException) else "(ConnectionError, TimeoutError)"
    quoted = ", without quotes" if isinstance(given, str) else ""
    return f"{option} takes exception classes, and {text} is none; write {option}={cure}{quoted}"


def check_rules(retry_on: tuple[str, ...], give_up_on: tuple[str, ...]) -> None:
    """Raises InvalidOption when a class stands in both."""
    if both := set(retry_on) & set(give_up_on):
        raise InvalidOption(f"{min(both)} stands in both retry_on and give_up_on: take it out of one of them")


def qualified(kind: type[BaseException]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def why_final(error: BaseException, retry_on: tuple[str, ...], give_up_on: tuple[str, ...]) -> str:
    """Why a job that raised `error` is not tried again, as a sentence; "" when no rule forbids it.

    The class that is nearest to the error's own decides, as the more special `except` clause would. Classes are
    compared by name, so that one of a notebook's cell is the same after the cell has run again. What a middleware
    raised counts as raised by the task.
    """
    if isinstance(error, MiddlewareFailed) and error.__cause__ is not None:
        error = error.__cause__
    kind = type(error)
    for base in kind.__mro__:
        if (name := qualified(base)) in give_up_on:
            return f"{kind.__name__} is in give_up_on{'' if base is kind else f' ({base.__name__})'}"
        if name in retry_on:
            return ""
    if isinstance(error, GiveUp):
        return "the task raised GiveUp"
    if isinstance(error, BaseExceptionGroup):
        inner = cast("BaseExceptionGroup[BaseException]", error).exceptions
        return next((why for one in inner if (why := why_final(one, retry_on, give_up_on))), "")
    return f"{kind.__name__} is not in retry_on" if retry_on else ""


def backoff_of(given: object) -> Shape | tuple[float, ...]:
    """A checked `backoff`. Raises InvalidOption."""
    if isinstance(given, str) and given in SHAPES:
        return given
    if not isinstance(given, list | tuple):
        same = "; for the same delay each time: backoff='fixed', backoff_s=…" if isinstance(given, int | float) else ""
        raise InvalidOption(
            f"backoff is {shown(given)}; it is one of {', '.join(SHAPES)}, or a tuple of delays in seconds such as "
            f"(1, 5, 60){same}"
        )
    delays: list[float] = []
    for at, delay in enumerate(cast("Iterable[object]", given)):
        if isinstance(delay, bool) or not isinstance(delay, int | float) or not 0 <= delay <= _LONGEST_S:
            raise InvalidOption(
                f"backoff[{at}] is {shown(delay)}; each delay is a number of seconds, from 0 to {_LONGEST_S:,}"
            )
        delays.append(delay)
    if not 1 <= len(delays) <= _MOST_DELAYS:
        raise InvalidOption(f"backoff has {len(delays)} delays; it takes 1 to {_MOST_DELAYS}")
    return tuple(delays)
