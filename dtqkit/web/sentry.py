"""Errors to Sentry when SENTRY_DSN is set: what broke, never what was sent or with which token."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, cast

from dtqkit._version import VERSION
from dtqkit.model.errors import redact
from dtqkit.model.settings import Settings

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint

log = logging.getLogger("dtqkit.web")

#: What of a request's headers may be sent.
_HEADERS: Final = frozenset({"user-agent", "content-type", "content-length", "x-request-id"})


def start(settings: Settings) -> None:
    """Report from now on."""
    if not settings.sentry_dsn:
        return
    try:
        import sentry_sdk
    except ModuleNotFoundError:
        log.warning("SENTRY_DSN is set, and sentry-sdk is not installed: nothing is reported")
        return
    sentry_sdk.init(
        dsn=settings.sentry_dsn,
        release=f"dtqkit@{VERSION}",
        send_default_pii=False,
        include_local_variables=False,
        max_request_body_size="never",
        max_breadcrumbs=0,
        before_send=scrub,
    )


def scrub(event: Event, _hint: Hint) -> Event:
    """`event` without bodies, query strings, headers that may hold a token, and passwords of addresses."""
    cleaned = cast("dict[str, Any]", _clean(event))
    request = cast("dict[str, Any]", cleaned.get("request", {}))
    for name in ("data", "query_string", "cookies", "env"):
        request.pop(name, None)
    if "url" in request:
        request["url"] = str(request["url"]).partition("?")[0]
    headers = cast("dict[str, str]", request.get("headers", {}))
    request["headers"] = {name: value for name, value in headers.items() if name.lower() in _HEADERS}
    if request != {"headers": {}}:
        cleaned["request"] = request
    cleaned.pop("breadcrumbs", None)
    cast("dict[str, Any]", cleaned.get("extra", {})).pop("remote", None)
    return cast("Event", cleaned)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in cast("list[Any]", value)]
    return value
