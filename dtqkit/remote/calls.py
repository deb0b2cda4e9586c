"""The operations that take more than one request over HTTP."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final, cast

import msgspec

from dtqkit.control import (
    COLUMNS,
    MAX_BATCH,
    MAX_PAGE,
    MORE_COLUMNS,
    NOTHING,
    Answers,
    AttemptRow,
    BatchItem,
    HistoryQuery,
    JobQuery,
    JobsRequest,
    JobStatus,
    Nothing,
    Refusal,
    Submission,
    columns_of,
    lean,
)
from dtqkit.control.operations import (
    DEPTHS,
    HISTORY,
    LIST_JOBS,
    RECORDS,
    SNAPSHOT,
    STATUSES,
    SUBMIT,
    SUBMIT_MANY,
    TASKS,
    WORKERS,
)
from dtqkit.model.errors import DtqError, StoreUnavailable
from dtqkit.model.events import Snapshot
from dtqkit.model.jobs import Job, is_job_id
from dtqkit.remote.http import Http
from dtqkit.remote.rows import rows
from dtqkit.support.once import Once
from dtqkit.tasks.task import TaskInfo

log = logging.getLogger("dtqkit.queue")
_said: Final = Once()

#: Bytes of one batch of submissions: the server takes 1 MiB.
MAX_BATCH_BYTES: Final = 900_000
#: Jobs that a snapshot shows.
RECENT: Final = 50

#: The functions of those; every other operation is one request.
answers: Final = Answers[Http]()


@answers.to(SUBMIT)
async def submit(http: Http, submission: Submission) -> Job:
    """With an idempotency key of its own, so that it can be sent again until its outcome is known."""
    return await http.ask_until_known(SUBMIT, _with_key(submission), submission.wait_s)


@answers.to(SUBMIT_MANY)
async def submit_many(http: Http, submissions: Sequence[Submission]) -> tuple[BatchItem, ...]:
    """In as many requests as needed, one after the other, until one gets no answer."""
    items: list[BatchItem] = []
    waits = [submission.wait_s for submission in submissions if submission.wait_s is not None]
    wait_s = max(waits) if waits else None
    try:
        for batch in _batches([_with_key(submission) for submission in submissions]):
            encoded = cast("tuple[Submission, ...]", batch)
            items += await http.ask_until_known(SUBMIT_MANY, encoded, wait_s)
    except DtqError as error:
        if not items:
            raise
        # What was accepted before stays accepted: if it were reported as refused, it would be submitted twice.
        refused = BatchItem(refused=Refusal.of(error))
        items += [refused] * (len(submissions) - len(items))
    return tuple(items)


@answers.to(RECORDS)
async def records(http: Http, asked: JobsRequest) -> tuple[Job, ...]:
    return tuple(await _of_ids(http, asked.ids, brief=False))


@answers.to(STATUSES)
async def statuses(http: Http, asked: JobsRequest) -> tuple[JobStatus, ...]:
    return tuple(JobStatus(job.id, job.status, job.rev) for job in await _of_ids(http, asked.ids, brief=True))


async def _of_ids(http: Http, job_ids: Sequence[str], *, brief: bool) -> list[Job]:
    ids = [job_id for job_id in job_ids if is_job_id(job_id)]
    chunks = [tuple(ids[start : start + MAX_PAGE]) for start in range(0, len(ids), MAX_PAGE)]
    queries = [JobQuery(ids=chunk, limit=MAX_PAGE, brief=brief) for chunk in chunks]
    pages = await asyncio.gather(*(http.ask(LIST_JOBS, query) for query in queries))
    return [job for page in pages for job in page.items]


@answers.to(SNAPSHOT)
async def snapshot(http: Http, _: Nothing) -> Snapshot:
    jobs, depths = await asyncio.gather(http.ask(LIST_JOBS, JobQuery(limit=RECENT)), http.ask(DEPTHS, NOTHING))
    try:
        workers = await http.ask(WORKERS, NOTHING)
    except StoreUnavailable:
        workers = ()
    return Snapshot(depths=depths, workers=workers, jobs=tuple(map(lean, jobs.items)))


@answers.to(TASKS)
async def tasks(http: Http, _: Nothing) -> tuple[TaskInfo, ...]:
    """Those that can be read: a task of a newer server may have an option of a kind that is not known here."""
    found: list[TaskInfo] = []
    for raw in await http.ask_as(tuple[msgspec.Raw, ...], TASKS, NOTHING):
        try:
            found.append(msgspec.json.decode(raw, type=TaskInfo))
        except msgspec.ValidationError as error:
            if _said.first(bytes(raw)):
                log.warning("a task is not listed, since this version of dtqkit cannot read it: update it (%s)", error)
    return tuple(found)


@answers.to(HISTORY)
async def history(http: Http, query: HistoryQuery) -> AsyncIterator[AttemptRow]:
    """Rows as records: with all default columns."""
    more = tuple(name for name in columns_of(query) if name in MORE_COLUMNS)
    whole = msgspec.structs.replace(query, columns=(*COLUMNS, *more) if more else None)
    return rows(http, HISTORY, whole, AttemptRow)


def _with_key(submission: Submission) -> Submission:
    if submission.idempotency_key is not None:
        return submission
    return msgspec.structs.replace(submission, idempotency_key=f"remote-{secrets.token_hex(16)}")


def _batches(submissions: Sequence[Submission]) -> Iterator[tuple[msgspec.Raw, ...]]:
    """Encoded submissions, in groups that one request can carry."""
    batch: list[msgspec.Raw] = []
    size = 0
    for submission in submissions:
        text = msgspec.json.encode(submission)
        if batch and (len(batch) >= MAX_BATCH or size + len(text) > MAX_BATCH_BYTES):
            yield tuple(batch)
            batch, size = [], 0
        batch.append(msgspec.Raw(text))
        size += len(text) + 1
    if batch:
        yield tuple(batch)
