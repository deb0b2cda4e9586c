"""Numbers, times and values in few words."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

from dtqkit.model.jobs import Job
from dtqkit.support.formatting import duration

#: Characters of a payload, a result or a message that a card shows.
SHORT: Final = 200


def waited(job: Job) -> str:
    """How long the job's last attempt waited for its first line; a dash while that has not run."""
    last = job.attempts[-1] if job.attempts else None
    return duration(last.wait_s if last else None, unknown="–")


def ran(job: Job) -> str:
    """How long its last attempt ran; of one that runs, since when, and of one that only was claimed, since when."""
    if job.status == "running" and job.claimed_at is not None:
        if job.started_at is None:
            return f"claimed {_since(job.claimed_at)} ago"
        return f"running {_since(job.started_at)}"
    return duration(job.attempts[-1].run_s if job.attempts else None, unknown="–")


def _since(when: datetime) -> str:
    return duration(max(0.0, (datetime.now(UTC) - when).total_seconds()))


def short(value: str, limit: int = SHORT) -> str:
    """`value`, cut to `limit` characters."""
    return value if len(value) <= limit else value[: limit - 1] + "…"


def as_json(value: Any, limit: int = SHORT) -> str:
    """A JSON value on one line, cut to `limit` characters."""
    return short(json.dumps(value, ensure_ascii=False, default=str), limit)


def count(number: int, noun: str) -> str:
    """`1 job`, `2 jobs`, `12,000 jobs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
