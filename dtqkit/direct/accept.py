"""Submits: enqueued once the stores are ready for them."""

from __future__ import annotations

from collections.abc import Sequence

from dtqkit.control import BatchItem, Refusal, Submission
from dtqkit.control.operations import SUBMIT, SUBMIT_MANY
from dtqkit.direct.parts import Parts, answers
from dtqkit.model.errors import DtqError, StoreUnavailable
from dtqkit.model.jobs import Job
from dtqkit.transitions.patience import Patience


@answers.to(SUBMIT)
async def submit(parts: Parts, submission: Submission) -> Job:
    wait_s = parts.settings.submit_wait_s if submission.wait_s is None else submission.wait_s
    patience = Patience(wait_s) if wait_s else None
    if submission.delay_s or not parts.ready:
        await _ready(parts, (submission,), patience)
    (answer,) = await parts.enqueuer.enqueue((submission,), patience)
    if isinstance(answer, DtqError):
        raise answer
    return answer


@answers.to(SUBMIT_MANY)
async def submit_many(parts: Parts, submissions: Sequence[Submission]) -> tuple[BatchItem, ...]:
    default_s = parts.settings.submit_wait_s
    patience = Patience(max((default_s if s.wait_s is None else s.wait_s for s in submissions), default=0.0))
    await _ready(parts, submissions, patience)
    return tuple([_item(answer) for answer in await parts.enqueuer.enqueue(submissions, patience)])


def _item(answer: Job | DtqError) -> BatchItem:
    return BatchItem(job=answer) if isinstance(answer, Job) else BatchItem(refused=Refusal.of(answer))


async def _ready(parts: Parts, submissions: Sequence[Submission], patience: Patience | None) -> None:
    """Connected; for delayed jobs, with the clock compared just now."""
    delayed = any(submission.delay_s for submission in submissions)
    while not parts.ready or delayed:
        try:
            await parts.open()
            await parts.stores.check()
            if delayed:
                await parts.store.clock_of_now()
        except StoreUnavailable as error:
            if patience is None or not await patience.again(error):
                raise
        else:
            break
