"""The JSON form of answers: a job is written whole, for readers that do not know our records."""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec

from dtqkit.control.records import BatchItem, Page
from dtqkit.model.events import Snapshot
from dtqkit.model.jobs import Job, job_json

_encoder: Final = msgspec.json.Encoder()


def encode(value: Any) -> bytes:
    """The JSON of any operation's answer."""
    return _encoder.encode(plain(value))


def plain(value: Any) -> Any:
    """`value` with each job in it as `job_json` has it."""
    if isinstance(value, Job):
        return job_json(value)
    if isinstance(value, Page):
        page = cast("Page[Any]", value)
        return {"items": [plain(item) for item in page.items], "cursor": page.cursor}
    if isinstance(value, BatchItem):
        return {"job": job_json(value.job)} if value.job is not None else value
    if isinstance(value, Snapshot):
        return {"depths": value.depths, "workers": value.workers, "jobs": [job_json(job) for job in value.jobs]}
    if isinstance(value, list | tuple):
        return [plain(item) for item in cast("list[Any]", value)]
    return value
