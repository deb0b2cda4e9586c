"""Changes of one waiting job, and of all jobs that a filter matches: what is asked, and the rows of the table."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypedDict, cast

import msgspec

from dtqkit.control.operations import OPERATIONS
from dtqkit.control.queries import JobFilter, query_of
from dtqkit.control.records import JobId
from dtqkit.control.table import Operation
from dtqkit.control.where import where_of
from dtqkit.model.errors import InvalidOption, InvalidQuery, JobNotFound
from dtqkit.model.jobs import Job, Priority, Status, is_job_id
from dtqkit.model.values import shown
from dtqkit.model.where import Scalar, WrongWhere
from dtqkit.tasks.options import Delay, Tags, check


class JobChanges(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a waiting job gets instead of what it was submitted with; None leaves it as it is."""

    priority: Priority | None = None
    #: Seconds from now before it may start; 0: at once.
    delay_s: Delay | None = None
    tags: Tags | None = None


class UpdateRequest(JobChanges, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Changes of one job."""

    id: JobId
    #: All of its payload, which is checked as that of a new job.
    payload: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if not is_job_id(self.id):
            raise JobNotFound(self.id[:40])
        msgspec.structs.force_setattr(self, "id", self.id.lower())


class BulkRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which jobs. The answer comes after some seconds: while it has a cursor, ask again with that."""

    filter: JobFilter = JobFilter()
    #: Must be true where the filter has no field.
    all: bool = False
    #: Only count the jobs that match.
    dry_run: bool = False
    #: Of the answer before: goes on from there.
    cursor: str | None = None


class BulkUpdateRequest(BulkRequest, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which waiting jobs, and what they get."""

    set: JobChanges


class Bulk(msgspec.Struct, frozen=True, kw_only=True):
    """What a bulk has done so far."""

    #: Jobs that matched the filter.
    matched: int = 0
    #: Of these, those that were changed. The others were changed by somebody else meanwhile; or a requeue met a unique
    #: job whose key another one has, a delete one whose window or follow-up is not over, a delay one that would expire.
    changed: int = 0
    #: Of the changed ones, running jobs that were asked to stop.
    stopping: int = 0
    #: Where to go on; None: all is done.
    cursor: str | None = None

    def plus(self, more: Bulk) -> Bulk:
        """This and the next piece."""
        return Bulk(
            matched=self.matched + more.matched,
            changed=self.changed + more.changed,
            stopping=self.stopping + more.stopping,
            cursor=more.cursor,
        )


class BulkCall(TypedDict, total=False):
    """The arguments of a bulk: the fields of JobFilter and of BulkRequest; None means the same as leaving it out."""

    status: Status | None
    task: str | None
    priority: Priority | None
    worker: str | None
    since: str | None
    q: str | None
    ids: Sequence[str] | None
    where: Mapping[str, Scalar] | None
    all: bool
    dry_run: bool
    cursor: str | None
    #: Called with what was done so far, after each piece.
    progress: Callable[[Bulk], object] | None


class Changes(TypedDict, total=False):
    """The fields of JobChanges as a dict."""

    priority: Priority | None
    delay_s: float | None
    tags: Sequence[str] | None


class JobChange(Changes, total=False):
    """The same of one job, which may get another payload, too: all of it."""

    payload: Mapping[str, Any] | None


class MatchesEverything(InvalidQuery):
    """A bulk without a filter, and without `all=True`."""

    code = "matches_everything"


UPDATE: Final = OPERATIONS.add(
    Operation(
        name="update",
        method="PATCH",
        path="/jobs/{id}",
        scope="write",
        summary="Change a waiting job: its priority, its delay, its payload, its tags.",
        request=UpdateRequest,
        response=Job,
    )
)


def _bulk(name: str, summary: str) -> Operation[BulkRequest, Bulk]:
    return OPERATIONS.add(
        Operation(
            name=f"{name}_many",
            method="POST",
            path=f"/jobs/{name}",
            scope="write",
            summary=summary,
            request=BulkRequest,
            response=Bulk,
        )
    )


CANCEL_MANY: Final = _bulk("cancel", "Cancel all jobs that match, some seconds of work at a time.")
REQUEUE_MANY: Final = _bulk("requeue", "Requeue all failed jobs that match, some seconds of work at a time.")
DELETE_MANY: Final = _bulk("delete", "Delete all jobs that match and are over, some seconds of work at a time.")
UPDATE_MANY: Final = OPERATIONS.add(
    Operation(
        name="update_many",
        method="POST",
        path="/jobs/update",
        scope="write",
        summary="Change all waiting jobs that match, some seconds of work at a time.",
        request=BulkUpdateRequest,
        response=Bulk,
    )
)


def changes_of(given: object, *, of_one: bool = False) -> JobChanges:
    """The checked record of a dict. Raises InvalidOption, which names the option."""
    if not isinstance(given, Mapping):
        raise InvalidOption(f"the changes are {shown(given)}; they are a dict, as in {{'priority': 'low'}}")
    given = cast("Mapping[str, Any]", given)
    if unknown := given.keys() - set(JobChanges.__struct_fields__):
        known = ", ".join((*JobChanges.__struct_fields__, "payload") if of_one else JobChanges.__struct_fields__)
        raise InvalidOption(f"{min(unknown)} cannot be changed; what can: {known}")
    fields = {name: value for name, value in given.items() if value is not None}
    if isinstance(fields.get("tags"), list | set):
        fields["tags"] = tuple(fields["tags"])
    changes = JobChanges(**fields)
    check(changes)
    return changes


def check_changes(changes: JobChanges, *, payload: bool = False) -> None:
    """Raises InvalidOption when nothing is to be changed."""
    if changes.priority is None and changes.delay_s is None and changes.tags is None and not payload:
        raise InvalidOption("nothing is to be changed: give priority, delay_s, tags, or for one job payload")


_OPTIONS: Final = ("all", "dry_run", "cursor")


def bulk_request(given: Mapping[str, Any]) -> BulkRequest:
    """The checked record of keyword arguments. Raises InvalidQuery, which names the filter."""
    options, filters = _parted(given)
    return BulkRequest(filter=query_of(JobFilter, filters), **options)


def bulk_update(changes: Mapping[str, Any], given: Mapping[str, Any]) -> BulkUpdateRequest:
    """The same with what the jobs get. Raises InvalidOption, which names the option."""
    options, filters = _parted(given)
    return BulkUpdateRequest(filter=query_of(JobFilter, filters), set=changes_of(changes), **options)


def _parted(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is no filter, and the filters."""
    options = {name: given[name] for name in _OPTIONS if given.get(name) is not None}
    if wrong := next((name for name in ("all", "dry_run") if not isinstance(options.get(name, False), bool)), None):
        raise InvalidQuery(f"{wrong} is {options[wrong]!r}; it is True or False")
    if not isinstance(cursor := options.get("cursor", ""), str):
        raise InvalidQuery(f"cursor is {shown(cursor)}; it is the `cursor` of an answer")
    if (progress := given.get("progress")) is not None and not callable(progress):
        raise InvalidQuery(f"progress is {shown(progress)}; it is a function that is called with what is done so far")
    filters = {name: value for name, value in given.items() if name not in (*_OPTIONS, "progress")}
    if filters.get("where") is not None:
        with refused_where():
            filters["where"] = where_of(filters["where"])
    return options, filters


@contextmanager
def refused_where() -> Generator[None]:
    """WrongWhere is an InvalidQuery."""
    try:
        yield
    except WrongWhere as wrong:
        raise InvalidQuery(f"where {wrong}") from None


def check_filter(asked: BulkRequest, verb: str, statuses: Sequence[Status]) -> tuple[Status, ...]:
    """The statuses of the jobs to look for. Raises MatchesEverything, or InvalidQuery for a status that cannot be."""
    wanted = asked.filter.status
    if wanted is not None and wanted not in statuses:
        raise InvalidQuery(f"status is {wanted!r}; {verb} changes jobs that are {', '.join(statuses)}")
    if asked.filter == JobFilter() and not asked.all:
        raise MatchesEverything(
            f"no filter is given: this would {verb} every job that is {' or '.join(statuses)}; give one of "
            f"{', '.join(JobFilter.__struct_fields__)}, or all=True"
        )
    return tuple(statuses) if wanted is None else (wanted,)
