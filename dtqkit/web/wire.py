"""Records as answers: a job is written whole, defaults and attempts too, for readers that do not know our records."""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec

from dtqkit.control import BatchItem, Page
from dtqkit.events import Snapshot
from dtqkit.jobs import Job

_FIELDS: Final = tuple(name for name in Job.__struct_fields__ if name != "earlier")
_encoder = msgspec.json.Encoder()


def encode(value: Any) -> bytes:
    """The JSON of any operation's answer."""
    return _encoder.encode(plain(value))


def plain(value: Any) -> Any:
    """`value` with each job in it as `job_fields` has it."""
    if isinstance(value, Job):
        return job_fields(value)
    if isinstance(value, Page):
        page = cast("Page[Any]", value)
        return {"items": [plain(item) for item in page.items], "cursor": page.cursor}
    if isinstance(value, BatchItem):
        return {"job": job_fields(value.job)} if value.job is not None else value
    if isinstance(value, Snapshot):
        return {"depths": value.depths, "workers": value.workers, "jobs": [job_fields(job) for job in value.jobs]}
    if isinstance(value, list | tuple):
        return [plain(item) for item in cast("list[Any]", value)]
    return value


def job_fields(job: Job) -> dict[str, Any]:
    """Every field that has a value, the result of a completed job even if it is null; and all attempts."""
    fields = {name: value for name in _FIELDS if (value := getattr(job, name)) is not None}
    if job.status == "completed":
        fields["result"] = job.result
    fields["attempts"] = job.attempts
    fields["earlier"] = job.earlier
    return fields
