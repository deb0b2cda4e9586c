"""A queue behind a server: the operations of `dtqkit.control` over HTTP, its events over the WebSocket."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from dtqkit.control import Control
from dtqkit.control.table import Operation, Req, Res
from dtqkit.model.errors import SettingsError
from dtqkit.model.events import Batch, Line
from dtqkit.remote.calls import answers
from dtqkit.remote.events import Events
from dtqkit.remote.http import Http
from dtqkit.remote.rows import rows
from dtqkit.remote.trouble import checked_url


class RemoteControl(Control):
    """Lives on the event loop that uses it first.

    A server that is away is a StoreUnavailable, and OutcomeUnknown when it may have done what it was asked. The events
    come again by themselves once it is back.
    """

    def __init__(self, url: str, token: str = "") -> None:
        self._url = checked_url(url)
        token = token.strip()  # of a file with the line ends of Windows
        if wrong := next((char for char in token if ord(char) < 33 or ord(char) == 127), None):
            raise SettingsError(f"the token has the character {wrong!r} in it, which no header can carry")
        self._http = Http(self._url, token)
        self._events = Events(self._url, token, self._http.proxy)

    def __repr__(self) -> str:
        return f"<RemoteControl {self._url}>"

    def function_of(self, operation: Operation[Req, Res]) -> Callable[[Req], Coroutine[Any, Any, Res]]:
        if (function := answers.get(operation)) is not None:
            return partial(function, self._http)
        if (lines := operation.streams) is not None:
            return partial(self._rows, operation, lines.row)
        return partial(self._http.ask, operation)

    async def _rows(self, operation: Operation[Any, Any], row: type[Any], request: Any) -> Any:
        return rows(self._http, operation, request, row)

    def subscribe(self, callback: Callable[[Batch | Line], None]) -> Callable[[], None]:
        return self._events.subscribe(callback)

    async def close(self) -> None:
        await self._events.close()
        self._http.close()
