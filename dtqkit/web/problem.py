"""Errors as answers: application/problem+json, made from a DtqError's code."""

from __future__ import annotations

import http
from typing import Any, Final, cast

import msgspec

from dtqkit.control.public import public_sentence
from dtqkit.model.errors import (
    AccessDenied,
    DocumentRefused,
    DtqError,
    Forbidden,
    InvalidOption,
    InvalidPayload,
    InvalidQuery,
    InvalidRequest,
    JobConflict,
    JobNotFound,
    PayloadTooLarge,
    Refused,
    StoreUnavailable,
    TooManyAttempts,
    UnknownTask,
    facts_of,
)
from dtqkit.model.pause_errors import InvalidPause, NotPaused
from dtqkit.model.schedule_errors import InvalidSchedule, ScheduleNotFound, ScheduleTaken, ScheduleUnreadable
from dtqkit.support.sanitize import bounded

MEDIA_TYPE: Final = "application/problem+json"
#: Seconds after which it is worth to ask again.
RETRY_AFTER_S: Final = 2
#: Members of a fact that an answer shows.
_MANY: Final = 100

#: The status of each kind of error and those below it; what is missing here is a bug of ours, and a 500.
STATUS: Final[dict[type[DtqError], int]] = {
    InvalidRequest: 400,
    InvalidQuery: 400,
    AccessDenied: 401,
    Forbidden: 403,
    TooManyAttempts: 429,
    JobNotFound: 404,
    JobConflict: 409,
    UnknownTask: 422,
    InvalidOption: 422,
    InvalidPayload: 422,
    PayloadTooLarge: 413,
    DocumentRefused: 422,
    InvalidPause: 422,
    NotPaused: 409,
    StoreUnavailable: 503,
    InvalidSchedule: 422,
    ScheduleNotFound: 404,
    ScheduleTaken: 409,
    ScheduleUnreadable: 409,
}
#: The same of Refused, whose codes only HTTP knows.
REFUSED: Final = {
    "invalid_json": 400,
    "not_found": 404,
    "method_not_allowed": 405,
    "too_large": 413,
    "unsupported_media_type": 415,
    "invalid_value": 422,
}


def status_of(error: DtqError) -> int:
    """The status of the answer."""
    if isinstance(error, Refused):
        return REFUSED.get(error.code, 500)
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 9457. `errors` holds what the error knows besides its message, such as the path in a payload."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    errors: tuple[dict[str, Any], ...] | msgspec.UnsetType = msgspec.UNSET
    request_id: str


def problem_of(error: DtqError, request_id: str) -> Problem:
    """What to answer. A store's address stays private; that it is away does not."""
    status = status_of(error)
    if status == 500:
        return internal(request_id)
    detail, facts = str(error), facts_of(error)
    if isinstance(error, StoreUnavailable):
        detail = public_sentence(error)
    if isinstance(error, Refused):
        facts = {}
    detail, facts = bounded(detail), _bounded(facts)
    return Problem(
        title=http.HTTPStatus(status).phrase,
        status=status,
        code=error.code,
        detail=detail,
        errors=(facts,) if facts else msgspec.UNSET,
        request_id=request_id,
    )


def _bounded(value: Any, left: int = 3) -> Any:
    """What an error knows, without long texts and lists: a request must not be sent back as a whole."""
    if isinstance(value, str):
        return bounded(value)
    if isinstance(value, dict) and left:
        return {key: _bounded(item, left - 1) for key, item in [*cast("dict[str, Any]", value).items()][:_MANY]}
    if isinstance(value, list | tuple) and left:
        return [_bounded(item, left - 1) for item in cast("list[Any]", value)[:_MANY]]
    return value if value is None or isinstance(value, bool | int | float) else "…"


def internal(request_id: str) -> Problem:
    """A bug of ours: the log has it under the request's id."""
    return Problem(
        title="Internal Server Error",
        status=500,
        code="internal_error",
        detail="the server made a mistake; its log has it under this request_id",
        request_id=request_id,
    )
