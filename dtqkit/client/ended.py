"""Why a job that is over has no result."""

from __future__ import annotations

from dtqkit.model.errors import JobCancelled, JobFailed
from dtqkit.model.expired import JobExpired
from dtqkit.model.jobs import Job, JobError


def failure_of(job: Job) -> JobFailed | JobCancelled | None:
    """Why a job that is over has no result; None when it has one."""
    if job.status == "completed":
        return None
    if job.status == "cancelled" and job.error is not None and job.error.kind == "expired":
        return JobExpired(job.id, job.task, job.error.message)
    if job.status == "cancelled":
        return JobCancelled(job.id, job.task)
    error = job.error or JobError("exception", "Unknown", "the record has no error")
    return JobFailed(
        job.id, job.task, error.type, error.message, error.traceback, attempt=job.attempt, module=error.module
    )
