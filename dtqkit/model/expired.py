"""Why a job with `expires_s` has no result."""

from __future__ import annotations

from dtqkit.model.errors import JobCancelled


class JobExpired(JobCancelled):
    """The job was not started within its `expires_s`, so it never ran and has no result."""

    code = "job_expired"

    def __init__(self, job_id: str, task: str, why: str) -> None:
        super().__init__(job_id, task)
        self.args = (f"job {job_id} ({task}) has expired: {why}",)
