"""One JSON object a line, with the request that it is about; on a terminal, lines for people."""

from __future__ import annotations

import logging
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import IO, Any, Final

import msgspec

from dtqkit.errors import redact

#: The id of the request that is served now.
request_id: ContextVar[str] = ContextVar("request_id", default="")

#: What the access log adds to a record.
_EXTRA: Final = ("method", "path", "status", "ms", "remote")


class JsonFormatter(logging.Formatter):
    """Without passwords of addresses, whatever a library puts into its message."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        if (request := request_id.get()) and record.name.startswith("dtqkit"):
            line["request_id"] = request
        line.update({name: value for name in _EXTRA if (value := getattr(record, name, None)) is not None})
        if record.exc_info and record.exc_info[0] is not None:
            line["traceback"] = redact("".join(traceback.format_exception(*record.exc_info)))
        return msgspec.json.encode(line).decode()


class LineFormatter(logging.Formatter):
    """For people; without passwords of addresses, too."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def configure(stream: IO[str] | None = None, *, lines: bool = False) -> None:
    """Send all logs of this process to `stream` (stderr). Tornado's access log is off: ours has the request's id."""
    target = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(target)
    if lines or target.isatty():
        handler.setFormatter(LineFormatter("%(asctime)s server %(levelname)s %(message)s", "%H:%M:%S"))
    else:
        handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("tornado.access").disabled = True
