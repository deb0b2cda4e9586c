"""Filters of listings and of history, and how they are read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, TypeAlias, TypedDict, TypeVar

import msgspec

from dtqkit.control.records import MAX_BATCH, MAX_PAGE
from dtqkit.model.errors import InvalidQuery
from dtqkit.model.jobs import PRIORITIES, STATUSES, AnyEnding, AnyPriority, AnyStatus, Priority, Status
from dtqkit.model.plain import shown
from dtqkit.model.where import Where


class AttemptRow(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of one job, flat, as history and NDJSON have it."""

    job: str
    task: str
    priority: AnyPriority
    status: AnyStatus
    number: int
    worker: str
    queued_at: datetime
    claimed_at: datetime
    #: When the first line of the task ran; None if it has not started or never did.
    started_at: datetime | None
    ended_at: datetime | None
    #: Seconds from being ready to the first line; seconds that it ran. None if it never started or still runs.
    wait_s: float | None
    run_s: float | None
    ending: AnyEnding | None
    error: str | None
    #: Of the job, on request; the result belongs to the attempt that completed it.
    payload: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    tags: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    result: Any | msgspec.UnsetType = msgspec.UNSET


#: In the JSON schema of a request: whether such a job exists is another question.
JobId: TypeAlias = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": "^[0-9a-f]{24}$"})]
Column: TypeAlias = Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(AttemptRow.__struct_fields__)})]


class JobQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Filters of a listing; newest first. `since` is a time, or an age such as `90s`, `15m`, `24h`, `7d`."""

    status: Status | None = None
    task: str | None = None
    priority: Priority | None = None
    worker: str | None = None
    since: str | None = None
    #: An id, an idempotency key or a tag, exact or its beginning.
    q: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    #: Exactly these jobs, with their attempts and logs.
    ids: Annotated[tuple[JobId, ...], msgspec.Meta(max_length=MAX_PAGE)] | None = None
    #: Of each job only id, task, priority, status, rev and the time of creation; its payload is empty.
    brief: bool = False
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_PAGE)] = 50
    cursor: str | None = None


class JobFilter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Filters of a bulk change: those of a listing, and values that the payload has."""

    status: Status | None = None
    task: str | None = None
    priority: Priority | None = None
    worker: str | None = None
    since: str | None = None
    q: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    ids: Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_BATCH)] | None = None
    #: Only jobs whose payload has all these values; a parameter that it leaves out has its default.
    where: Where = {}


class DeadLetterQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which dead letters to requeue; `dry_run` only counts them."""

    task: str | None = None
    priority: Priority | None = None
    since: str | None = None
    #: Exactly these jobs.
    ids: Annotated[tuple[JobId, ...], msgspec.Meta(max_length=MAX_BATCH)] | None = None
    dry_run: bool = False


class HistoryQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which attempts: `since` as in JobQuery, by the job's creation; and what of them, in this order."""

    since: str | None = None
    task: str | None = None
    status: Status | None = None
    #: Names of columns; besides the usual ones, these are payload, tags and result.
    columns: Annotated[tuple[Column, ...], msgspec.Meta(min_length=1, max_length=50)] | None = None


class JobFilters(TypedDict, total=False):
    """The fields of JobQuery as keyword arguments; None means the same as leaving it out."""

    status: Status | None
    task: str | None
    priority: Priority | None
    worker: str | None
    since: str | None
    q: str | None
    ids: Sequence[str] | None
    brief: bool
    limit: int
    cursor: str | None


class DeadLetterFilters(TypedDict, total=False):
    """The fields of DeadLetterQuery as keyword arguments."""

    task: str | None
    priority: Priority | None
    since: str | None
    ids: Sequence[str] | None
    dry_run: bool


class HistoryFilters(TypedDict, total=False):
    """The fields of HistoryQuery as keyword arguments."""

    since: str | None
    task: str | None
    status: Status | None
    columns: Sequence[str] | None


Q = TypeVar("Q", JobQuery, DeadLetterQuery, HistoryQuery, JobFilter)


def query_of(kind: type[Q], filters: Mapping[str, Any]) -> Q:
    """The checked record of keyword filters; InvalidQuery, which names the filter, when one is wrong."""
    given = {name: value for name, value in filters.items() if value is not None}
    if unknown := set(given) - set(kind.__struct_fields__):
        known = ", ".join(kind.__struct_fields__)
        raise InvalidQuery(f"there is no filter {min(unknown)!r}; there are {known}")
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        for name, known in (("status", STATUSES), ("priority", PRIORITIES)):
            if given.get(name, known[0]) not in known:
                raise InvalidQuery(f"{name} is {shown(given[name])}; it is one of {', '.join(known)}") from None
        raise InvalidQuery(str(error)) from None


#: Columns of a history that come only on request, and those that come by default.
MORE_COLUMNS: Final = ("payload", "tags", "result")
COLUMNS: Final = tuple(name for name in AttemptRow.__struct_fields__ if name not in MORE_COLUMNS)


def columns_of(query: HistoryQuery) -> tuple[str, ...]:
    """The columns of a history. Raises InvalidQuery, which names the columns that exist."""
    if query.columns is None:
        return COLUMNS
    for name in query.columns:
        if name not in AttemptRow.__struct_fields__:
            known = ", ".join(AttemptRow.__struct_fields__)
            raise InvalidQuery(f"there is no column {name[:60]!r}; there are {known}")
    return query.columns


_AGE = re.compile(r"^(\d{1,6}(?:\.\d{1,3})?)([smhd])$")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(2106, 1, 1, tzinfo=UTC)
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def parse_since(text: str, now: datetime) -> datetime:
    """The time that `text` means: an age (`90s`, `15m`, `24h`, `7d`) or a time in ISO 8601 (UTC without an offset)."""
    try:
        if match := _AGE.match(text):
            when = now - timedelta(seconds=float(match[1]) * _UNIT_S[match[2]])
        else:
            when = datetime.fromisoformat(text)
            when = when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
        # A job's id holds its time in 32 bits: a time before or after all jobs is replaced by the limit.
        return min(max(when, _EPOCH), _LAST)
    except (OverflowError, ValueError):
        pass
    raise InvalidQuery(
        f"since is {text[:80]!r}; it is an age such as 90s, 15m, 24h or 7d, or a time such as 2026-01-31T08:00"
    )
