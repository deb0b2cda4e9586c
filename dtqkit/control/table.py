"""The table of operations, and what a row of it holds."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar, get_args

import msgspec

Req = TypeVar("Req")
Res = TypeVar("Res")

Scope: TypeAlias = Literal["open", "read", "write"]

_PARAMETER: Final = re.compile(r"{(\w+)}")


class Lines(msgspec.Struct, Generic[Req], frozen=True, kw_only=True):
    """How an answer of unbounded length goes over HTTP: a line of JSON for each row."""

    row: type[Any]
    #: What a line is of, as in `a line an attempt`.
    each: str
    #: The fields of the row that a line has, in this order.
    fields: Callable[[Req], Sequence[str]]


class Operation(msgspec.Struct, Generic[Req, Res], frozen=True, kw_only=True, eq=False):
    """One row: what is asked, what is answered, and how it is reached over HTTP.

    The fields of the request that stand in `path` in braces are taken from there; the others are the query string of a
    GET, and the body of a POST or PATCH. Without a `path`, no face offers it: only a queue itself asks it.
    """

    name: str
    request: type[Req]
    response: type[Res]
    summary: str = ""
    method: Literal["GET", "POST", "PATCH"] = "GET"
    path: str = ""
    scope: Scope = "read"
    status: int = 200
    #: For an operation that makes something: the last part of its address, under the operation's own.
    created: Callable[[Res], str] | None = None
    #: When an answer means that the work has begun but is not done: 202.
    accepted_when: Callable[[Res], bool] | None = None
    #: When an answer means that the queue is down: 503, still with the record.
    may_be_down: Callable[[Res], bool] | None = None
    #: The answer is sent while it is read.
    streams: Lines[Req] | None = None

    @property
    def writes(self) -> bool:
        """Whether it may change something."""
        return self.method != "GET"

    def __repr__(self) -> str:
        return f"<Operation {self.name}>"


@functools.cache
def path_fields(operation: Operation[Any, Any]) -> tuple[str, ...]:
    """The fields of its request that are parts of the path."""
    return tuple(_PARAMETER.findall(operation.path))


@functools.cache
def own_fields(operation: Operation[Any, Any]) -> tuple[str, ...] | None:
    """The other fields: of the query string or of the body. None: the body is a list."""
    fields: tuple[str, ...] | None = getattr(operation.request, "__struct_fields__", None)
    return None if fields is None else tuple(name for name in fields if name not in path_fields(operation))


def item_of(request: Any) -> Any:
    """The record that a list has for its items; of what is no list, the request itself."""
    while get_args(request):
        request = get_args(request)[0]
    return request


class Table:
    """The operations by name, in the order in which they were added."""

    def __init__(self) -> None:
        self._rows: dict[str, Operation[Any, Any]] = {}

    def add(self, operation: Operation[Req, Res]) -> Operation[Req, Res]:
        """Put a row into the table. Raises ValueError when its name or its route is taken."""
        route = (operation.method, operation.path)
        for other in self._rows.values():
            if operation.name == other.name or route == (other.method, other.path):
                raise ValueError(f"operation {operation.name!r} ({' '.join(route)}) has the name or route of {other!r}")
        self._rows[operation.name] = operation
        return operation

    def remove(self, operation: Operation[Any, Any]) -> None:
        """Take a row out again, as a test does."""
        del self._rows[operation.name]

    def get(self, name: str) -> Operation[Any, Any] | None:
        return self._rows.get(name)

    def __contains__(self, operation: object) -> bool:
        return operation in self._rows.values()

    def __iter__(self) -> Iterator[Operation[Any, Any]]:
        return iter(tuple(self._rows.values()))

    def __len__(self) -> int:
        return len(self._rows)
