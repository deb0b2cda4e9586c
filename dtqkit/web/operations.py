"""The routes of control.OPERATIONS: one handler for each path, made from the table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Final, cast

import msgspec
from tornado.iostream import StreamClosedError

from dtqkit.control import OPERATIONS, Operation, columns_of
from dtqkit.errors import DtqError, InvalidRequest, JobNotFound
from dtqkit.jobs import Job, is_job_id
from dtqkit.web.access import Scope
from dtqkit.web.base import Base, log
from dtqkit.web.intake import NO_QUERY, read_body, read_json, read_query
from dtqkit.web.problem import Refused
from dtqkit.web.wire import encode

#: Bytes of history that are collected before they are sent.
_CHUNK: Final = 32 * 1024


class OperationHandler(Base):
    """Answers the operations of one path."""

    operations: ClassVar[dict[str, Operation]] = {}

    async def get(self, **path: str) -> None:
        await self._answer(path)

    async def post(self, **path: str) -> None:
        await self._answer(path)

    async def _answer(self, path: dict[str, str]) -> None:
        method = str(self.request.method)
        operation = self.operations["GET" if method == "HEAD" else method]
        arguments = list(self._arguments(operation, path))
        answer = await getattr(self.control, operation.name)(*arguments)
        self.set_status(operation.status)
        if operation.name in _AFTER:
            _AFTER[operation.name](self, answer)
        self.answer(encode(answer))

    def _arguments(self, operation: Operation, path: dict[str, str]) -> Iterable[Any]:
        """What the method of Control takes: the job's id, or the record of the query string or of the body."""
        if "id" in path:
            if not is_job_id(path["id"]):
                raise JobNotFound(path["id"][:40])
            yield path["id"].lower()
        if operation.method == "POST":
            read_query(NO_QUERY, self.request.query)
            if operation.request is not None:
                if not self.request.body:
                    raise Refused("invalid_json", "a body is needed")
                yield read_body(operation, self.request.body)
            elif self.request.body and read_json(self.request.body) != {}:
                raise InvalidRequest("nothing is taken in the body")
        else:
            query = read_query(operation, self.request.query)
            if operation.request is not None:
                yield query


class HistoryHandler(OperationHandler):
    """History as NDJSON: sent while it is read, as fast as the reader takes it."""

    async def get(self, **path: str) -> None:
        (query,) = self._arguments(self.operations["GET"], path)
        columns = columns_of(query)
        rows = self.control.history(query)
        self.set_header("Content-Type", "application/x-ndjson")
        lines: list[bytes] = []
        size = 0
        try:
            async for row in rows:
                line = msgspec.json.encode({name: getattr(row, name) for name in columns})
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
            # The status is sent: only a cut line tells the reader that this is not all.
            log.warning("a history was cut off: %s", error, exc_info=None if isinstance(error, DtqError) else error)
            self.services.busy.discard(self)  # nothing else comes after this
            self.detach().close()
            return
        self.answer(b"\n".join([*lines, b""]))


def _submitted(handler: Base, answer: Job) -> None:
    handler.set_header("Location", f"{handler.request.path.rstrip('/')}/{answer.id}")


def _cancelled(handler: Base, answer: Job) -> None:
    if answer.status == "running":
        handler.set_status(202)


_AFTER: Final[dict[str, Callable[[Base, Any], None]]] = {
    "submit": _submitted,
    "cancel": _cancelled,
}


def _handlers() -> list[tuple[str, type[OperationHandler]]]:
    """A handler for each path of the table. Fixed paths come before those with a parameter."""
    paths: dict[str, dict[str, Operation]] = {}
    for operation in OPERATIONS:
        if operation.name == "health":
            continue  # answered by `health`, which looks for itself
        paths.setdefault(operation.path, {})[operation.method] = operation
    found: list[tuple[str, type[OperationHandler]]] = []
    for path in sorted(paths, key=lambda path: "{" in path):
        operations = paths[path]
        base = HistoryHandler if "history" in {o.name for o in operations.values()} else OperationHandler
        scopes: dict[str, Scope] = {method: operation.scope for method, operation in operations.items()}
        name = "".join(operation.name.title().replace("_", "") for operation in operations.values())
        members = {"operations": operations, "scopes": scopes}
        found.append(
            (path.replace("{id}", "(?P<id>[^/]+)"), cast(type[OperationHandler], type(name, (base,), members)))
        )
    return found


routes = _handlers()
