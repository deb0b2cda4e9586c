"""One JSON object a line, with the request that it is about; on a terminal, lines for people."""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Iterable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import IO, Any, Final

import msgspec

from dtqkit.support.sanitize import MAX_ANSWERED, MAX_LOGGED, SafeFormatter, SecretHider, bounded

#: The id of the request that is served now.
request_id: ContextVar[str] = ContextVar("request_id", default="")

#: What the access log adds to a record.
_EXTRA: Final = ("method", "path", "status", "ms", "remote")
#: What Tornado quotes of a message that is no HTTP: a whole header's value, say, with the token in it.
_QUOTED: Final = re.compile(r"['\"].*", re.DOTALL)
_WHICH: Final = {"\r": "a carriage return", "\n": "a newline", "\0": "a NUL", "\x0b": "a VT", "\x7f": "a DEL"}


class JsonFormatter(logging.Formatter):
    """Without passwords of addresses and without `secrets`, whatever a library puts into its message; and bounded."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._hide = SecretHider(secrets)

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._clean(record.getMessage(), MAX_LOGGED),
        }
        if (request := request_id.get()) and record.name.startswith("dtqkit"):
            line["request_id"] = request
        for name in _EXTRA:
            if (value := getattr(record, name, None)) is not None:
                line[name] = self._clean(value, MAX_ANSWERED) if isinstance(value, str) else value
        if record.exc_info and record.exc_info[0] is not None:
            line["traceback"] = self._clean("".join(traceback.format_exception(*record.exc_info)), MAX_LOGGED)
        return msgspec.json.encode(line).decode()

    def _clean(self, text: str, limit: int) -> str:
        safe = bounded(self._hide(text), limit)
        # A lone surrogate is no JSON.
        return safe if safe.isascii() else safe.encode("utf-8", "backslashreplace").decode()


def without_header(record: logging.LogRecord) -> bool:
    """Replace what Tornado quotes of a malformed request by what may be wrong with the token."""
    if isinstance(record.msg, str) and record.msg.startswith("Malformed HTTP message"):
        text = record.getMessage()
        clean = _QUOTED.sub("(not shown)", text)
        if "header value" in clean:
            clean += f": it has {_control_in(text)} in it; if that is a token, look at how DTQ_TOKEN was set there"
        record.msg, record.args = clean, ()
    return True


def _control_in(text: str) -> str:
    """The first control character of what was quoted, by its name; in a text it stands as `\\r` or `\\x00`."""
    quoted = text.partition("'")[2]
    found = [(quoted.find(repr(char)[1:-1]), name) for char, name in _WHICH.items()]
    return min((pair for pair in found if pair[0] >= 0), default=(0, "a control character"))[1]


def configure(stream: IO[str] | None = None, *, lines: bool = False, secrets: Iterable[str] = ()) -> None:
    """Send all logs of this process to `stream` (stderr), without `secrets`.

    Tornado's access log is off: ours has the request's id.
    """
    target = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(target)
    handler.addFilter(without_header)
    if lines or target.isatty():
        handler.setFormatter(SafeFormatter("%(asctime)s server %(levelname)s %(message)s", "%H:%M:%S", secrets=secrets))
    else:
        handler.setFormatter(JsonFormatter(secrets))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("tornado.access").disabled = True
