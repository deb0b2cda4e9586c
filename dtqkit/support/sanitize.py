"""Make untrusted text safe to log, answer or print: remove secrets, cut it, escape control characters.

All of it takes time in proportion to the text: no pattern here looks twice at the same part of it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, quote_plus

#: Characters of a log line, with its traceback, that are kept: most from its beginning, the rest from its end.
MAX_LOGGED: Final = 16_000
#: Characters of a text in an answer.
MAX_ANSWERED: Final = 2_000
#: Shorter secrets are too likely to be ordinary words: their value is not searched for.
_LEAST_SECRET: Final = 6
_HIDDEN: Final = "***"

#: An address up to the next space: all before its last @ may be a password, which may have @, : and / in it.
_ADDRESS: Final = re.compile(r"://\S+")
_NAMES: Final = (
    r"(?:password|passwd|pwd|token|secret|api_?key|access_?key|private_?key|credentials?|sentry_?dsn"
    r"|authMechanismProperties)"
)
#: `token=…` and `?password=…`; a value in quotes ends with them.
_PARAMETER: Final = re.compile(rf"(?i)({_NAMES}\\?['\"]?\s?=\s?)(?:\"[^\"\n]*\"|'[^'\n]*'|[^&\s]+)")
#: `"token": "…"` and `'password': '…'`, as JSON and a dict have them, also where that is a text in JSON itself.
_MEMBER: Final = re.compile(
    rf"(?i)({_NAMES}\\?['\"]\s?:\s?)(?:\"(?:[^\"\\\n]|\\.)*\"?|\\\"(?:[^\"\\\n]|\\[^\"\n])*\\?\"?|'[^'\n]*'?|[^\s,}}\]]+)"
)
#: A header line or a dict of headers; the value up to its end.
_HEADER: Final = re.compile(r"(?i)(authorization\\?['\"]?\s?[:=,]\s?)[^\n]*")
_SCHEME: Final = re.compile(r"(?i)\b(bearer|basic)(\s+)[^\s'\"]{8,}")
#: Whatever is found above has one of these. Most texts, such as lines of requests, have none.
_SUSPECT: Final = re.compile(r"(?i)[:=,]|bearer|basic")

#: Control characters and marks of text direction: C0 but tab and newline, DEL, C1.
_CONTROLS: Final = (
    *range(32),
    *range(0x7F, 0xA0),
    0x61C,
    0x200E,
    0x200F,
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
)
_ESCAPES: Final = {n: f"\\x{n:02x}" if n < 256 else f"\\u{n:04x}" for n in _CONTROLS if chr(n) not in "\n\t"}
_IN_JSON: Final = {n: f"\\u{n:04x}" for n in _ESCAPES if n >= 32}
_IN_ONE_LINE: Final = {**_ESCAPES, 10: "\\n", 9: "\\t"}


def redact(text: str) -> str:
    """`text` without the user and password of any address in it, and without tokens and secret parameters."""
    if not _SUSPECT.search(text):
        return text
    if "://" in text:
        text = _ADDRESS.sub(_without_user, text)
    text = _HEADER.sub(rf"\1{_HIDDEN}", text)
    text = _SCHEME.sub(rf"\1\2{_HIDDEN}", text)
    text = _MEMBER.sub(rf"\1{_HIDDEN}", text)
    return _PARAMETER.sub(rf"\1{_HIDDEN}", text)


def _without_user(found: re.Match[str]) -> str:
    user, at, rest = found[0].rpartition("@")
    return f"://{_HIDDEN}@{rest}" if at else user + rest


def cut(text: str, limit: int) -> str:
    """At most about `limit` characters: the beginning and, where it is long, some of the end.

    An address is never cut in two, since half of it shows a password without the @ by which it is found.
    """
    if len(text) <= limit:
        return text
    first, last = text[: limit * 3 // 4], text[-limit // 4 :]
    begun = first.rfind("://")
    if begun >= 0 and not any(map(str.isspace, first[begun:])):
        first = first[: begun + 3]
    _, space, rest = last.partition(" ")
    return f"{first}… ({len(text):,} characters) …{rest if space else ''}"


def bounded(text: str, limit: int = MAX_ANSWERED) -> str:
    """`text` cut and redacted, for an answer or a line of a log."""
    return redact(cut(text, limit))


def escaped(text: str) -> str:
    """`text` with control characters escaped (`\\x1b`), except newlines and tabs."""
    return text.translate(_ESCAPES)


def escaped_line(text: str) -> str:
    """The same as one line."""
    return text.translate(_IN_ONE_LINE)


def escaped_json(text: str) -> str:
    """The same JSON with control characters escaped: they occur in its strings only."""
    return text.translate(_IN_JSON)


class SecretHider:
    """Removes the given secrets from texts, in every form in which they may occur."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets if len(secret) >= _LEAST_SECRET for form in _forms(secret)}
        self._forms = sorted(forms, key=len, reverse=True)
        self._least = min(map(len, forms), default=0)

    def __call__(self, text: str) -> str:
        if len(text) >= self._least:
            for form in self._forms:
                text = text.replace(form, _HIDDEN)
        return text


def _forms(secret: str) -> Iterable[str]:
    return secret, quote(secret, safe=""), quote_plus(secret), secret.encode("unicode_escape").decode()


class SafeFormatter(logging.Formatter):
    """A log line with its traceback, for any text: cut, redacted, and with control characters escaped."""

    def __init__(self, fmt: str, datefmt: str | None = None, *, secrets: Iterable[str] = ()) -> None:
        super().__init__(fmt, datefmt)
        self._hide = SecretHider(secrets)

    def format(self, record: logging.LogRecord) -> str:
        return escaped(bounded(self._hide(super().format(record)), MAX_LOGGED))


def log_safely(fmt: str, datefmt: str | None = None) -> None:
    """Like `logging.basicConfig`: to stderr, from WARNING on; its lines are safe to show."""
    handler = logging.StreamHandler()
    handler.setFormatter(SafeFormatter(fmt, datefmt))
    logging.basicConfig(handlers=[handler])
