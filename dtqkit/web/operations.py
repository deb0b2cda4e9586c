"""The routes of the table of operations: one handler for each path, made from its rows."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection
from typing import Any, ClassVar, Final, cast

import msgspec
from tornado.iostream import StreamClosedError

from dtqkit.control import OPERATIONS, Operation
from dtqkit.control.json_form import encode
from dtqkit.control.table import Lines
from dtqkit.model.errors import DtqError
from dtqkit.web.access import Scope
from dtqkit.web.base import Base, log
from dtqkit.web.intake import read_request

#: Bytes of a streamed answer that are collected before they are sent.
_CHUNK: Final = 32 * 1024

_PARAMETER: Final = re.compile(r"{(\w+)}")


class OperationHandler(Base):
    """Answers the operations of one path."""

    operations: ClassVar[dict[str, Operation[Any, Any]]] = {}

    async def get(self, **path: str) -> None:
        await self._answer(path)

    async def post(self, **path: str) -> None:
        await self._answer(path)

    async def patch(self, **path: str) -> None:
        await self._answer(path)

    async def _answer(self, path: dict[str, str]) -> None:
        method = str(self.request.method)
        operation = self.operations["GET" if method == "HEAD" else method]
        request = read_request(operation, path, self.request)
        if operation.streams is not None:
            await self._stream(operation, request, operation.streams)
            return
        answer = await self.control.ask(operation, request)
        self.set_status(operation.status)
        if operation.created is not None:
            self.set_header("Location", f"{self.request.path.rstrip('/')}/{operation.created(answer)}")
        if operation.accepted_when is not None and operation.accepted_when(answer):
            self.set_status(202)
        if operation.may_be_down is not None and operation.may_be_down(answer):
            self.set_down()
        self.answer(encode(answer))

    async def _stream(self, operation: Operation[Any, AsyncIterator[Any]], request: Any, form: Lines[Any]) -> None:
        """As NDJSON: sent while it is read, as fast as the reader takes it."""
        fields = form.fields(request)
        rows = await self.control.ask(operation, request)
        self.set_header("Content-Type", "application/x-ndjson")
        lines: list[bytes] = []
        size = 0
        try:
            async for row in rows:
                line = msgspec.json.encode({name: getattr(row, name) for name in fields})
                lines.append(line)
                size += len(line)
                if size > _CHUNK:
                    self.write(b"\n".join([*lines, b""]))  # pyright: ignore[reportUnknownMemberType]
                    lines, size = [], 0
                    await self.flush()
                    if self.request.method == "HEAD":
                        break  # the headers are sent: nobody reads the rest
        except StreamClosedError:
            return  # the reader has left
        except Exception as error:
            if not self._headers_written:
                raise
            # The status is sent: only a cut line shows the reader that the answer is incomplete.
            what = None if isinstance(error, DtqError) else error
            log.warning("the answer to %s was cut off: %s", operation.name, error, exc_info=what)
            self.services.busy.discard(self)  # nothing else comes after this
            self.detach().close()
            return
        self.answer(b"\n".join([*lines, b""]))


def routes(besides: Collection[str] = ()) -> list[tuple[str, type[OperationHandler]]]:
    """A handler for each path of the table, but for the paths that have one of their own.

    Fixed paths come before those with a parameter.
    """
    paths: dict[str, dict[str, Operation[Any, Any]]] = {}
    for operation in OPERATIONS:
        if operation.path not in besides:
            paths.setdefault(operation.path, {})[operation.method] = operation
    return [(_pattern(path), _handler(paths[path])) for path in sorted(paths, key=lambda path: "{" in path)]


def _pattern(path: str) -> str:
    return _PARAMETER.sub(r"(?P<\1>[^/]+)", path)


def _handler(operations: dict[str, Operation[Any, Any]]) -> type[OperationHandler]:
    scopes: dict[str, Scope] = {method: operation.scope for method, operation in operations.items()}
    name = "".join(operation.name.title().replace("_", "") for operation in operations.values())
    members = {"operations": operations, "scopes": scopes}
    return cast("type[OperationHandler]", type(name, (OperationHandler,), members))
