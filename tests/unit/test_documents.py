"""A job's document, read: also one of a newer version. And its id."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from dtqkit.store.documents import to_job
from dtqkit.store.ids import new_id

NOW = datetime(2026, 5, 1, 12, 30, 7, 250_000, tzinfo=UTC)


def document(**fields: Any) -> dict[str, Any]:
    return {"_id": new_id(NOW), "task": "t", "payload": {}, "created_at": NOW, **fields}


def test_what_a_newer_version_has_written_can_be_read() -> None:
    error = {"kind": "of_tomorrow", "type": "Odd", "message": "no", "new": 1}
    attempt = {"number": 1, "worker": "w", "queued_at": NOW, "claimed_at": NOW, "ending": "vanished", "error": error}
    job = to_job(document(status="failed", error=error, earlier=[attempt], not_known_here=3))
    assert job.error is not None
    assert (job.error.kind, job.error.type) == ("exception", "Odd")
    [earlier] = job.earlier
    assert (earlier.ending, earlier.error) == ("failed", job.error)


def test_what_is_known_is_read_as_it_is() -> None:
    error = {"kind": "timeout", "type": "TaskTimeout", "message": "late"}
    attempt = {"number": 1, "worker": "w", "queued_at": NOW, "claimed_at": NOW, "ending": "timeout", "error": error}
    [earlier] = to_job(document(status="failed", error=error, earlier=[attempt])).earlier
    assert earlier.error is not None
    assert (earlier.ending, earlier.error.kind) == ("timeout", "timeout")


def test_ids_have_the_time_that_is_given_and_are_unique_and_in_order() -> None:
    ids = [new_id(NOW) for _ in range(10_000)]
    assert len(set(ids)) == len(ids)
    assert {one.generation_time for one in ids} == {NOW.replace(microsecond=0)}
    rising = sum(a < b for a, b in pairwise(ids))
    assert rising >= len(ids) - 2  # except where the counter starts again at 0


def test_a_forked_child_makes_other_ids() -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, new_id(NOW).binary)
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 12)[4:9] != new_id(NOW).binary[4:9]
    os.close(read)
    os.close(write)
