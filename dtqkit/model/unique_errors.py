"""What a submit or a requeue finds that must not make a second job of a key."""

from __future__ import annotations

from dtqkit.model.errors import JobConflict


class DuplicateJob(JobConflict):
    """Another job has the key of this unique job; `job_id` is that job."""

    code = "duplicate_job"
    job_id: str = ""

    def __init__(self, job_id: str, detail: str) -> None:
        super().__init__(detail)
        self.job_id = job_id
