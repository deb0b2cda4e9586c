"""The worker's log of its jobs: one line for each end, bounded, and nothing where logging is not set up."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from functools import wraps
from typing import Any

import pytest

from dtqkit.model.jobs import Job, JobError
from dtqkit.model.lifecycle import decide
from dtqkit.model.outcomes import Declined, Failure, Outcome, Released, Success
from dtqkit.worker.joblog import LINES, JobLog
from tests.wait import wait_until_async

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
ERROR = JobError("exception", "ValueError", "no \x1b[2J\nmore", 'Traceback\n  File "shop.py"\nValueError: no')


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(f"{record.levelname} {record.getMessage()}")


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler, logger = Lines(), logging.getLogger("dtqkit")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel("INFO")
    yield handler
    logger.setLevel(before)
    logger.removeHandler(handler)


def job(failures: int = 0) -> Job:
    return Job(
        id="6" * 24,
        task="render",
        payload={},
        created_at=BEGAN,
        claimed_at=BEGAN,
        claim_number=failures + 1,
        failures=failures,
    )


def log_end(log: JobLog, outcome: Outcome, failures: int = 0, waited_s: float | None = 0.03) -> None:
    start_ms = None if waited_s is None else round(waited_s * 1000)
    log.ended([(job(failures), decide(job(failures), outcome, random.Random(1), start_ms))])


@on_a_loop
async def test_each_end_is_a_line(lines: Lines) -> None:
    log = JobLog(enabled=True)
    log_end(log, Success(1, 1240.0))
    log_end(log, Failure(ERROR, 400.0), failures=1)
    log_end(log, Failure(ERROR, 400.0), failures=2)
    log_end(log, Released(None), waited_s=None)
    log.close()
    retried, dead = lines.texts[1].splitlines(), lines.texts[2].splitlines()
    assert lines.texts[0] == f"INFO render {'6' * 24} completed in 1.24 s (waited 0.03 s, attempt 1)"
    head = f"WARNING render {'6' * 24} failed in 0.40 s (waited 0.03 s, attempt"
    assert retried[0].startswith(f"{head} 2): ValueError: no \\x1b[2J; failure 2 of 3, again in ")
    assert retried[1:] == ["Traceback", '  File "shop.py"', "ValueError: no"]
    assert dead[0] == f"{head} 3): ValueError: no \\x1b[2J; failure 3 of 3, not tried again"
    assert lines.texts[3:] == [f"INFO render {'6' * 24} given back (attempt 1)"]


@on_a_loop
async def test_a_flood_is_summed_up_each_second(lines: Lines) -> None:
    log = JobLog(enabled=True)
    for _ in range(LINES + 1834):
        log_end(log, Success(1, 1.0))
    assert len(lines.texts) == LINES
    await wait_until_async(lambda: len(lines.texts) > LINES)
    log_end(log, Success(1, 1.0))
    log.close()
    assert lines.texts[LINES] == "INFO 1,834 more jobs completed in the last second"
    assert len(lines.texts) == LINES + 2


@on_a_loop
async def test_jobs_that_are_given_back_for_one_reason_share_a_line_each_second(lines: Lines) -> None:
    log = JobLog(enabled=True)
    for _ in range(12):
        log_end(log, Declined(JobError("invalid_payload", "InvalidPayload", "no dpi\nmore")))
    log_end(log, Declined(JobError("unknown_task", "UnknownTask", "none")))
    log.close()
    ids = f"{', '.join(['6' * 24] * 5)} and 7 more"
    assert lines.texts == [
        f"WARNING 12 jobs of render given back, left to other workers: InvalidPayload: no dpi: {ids}",
        f"WARNING 1 job of render given back, left to other workers: UnknownTask: none: {'6' * 24}",
    ]


@on_a_loop
async def test_it_can_be_turned_off(lines: Lines) -> None:
    log_end(JobLog(enabled=False), Failure(ERROR, 1.0))
    assert lines.texts == []


@on_a_loop
async def test_nothing_is_printed_without_a_logging_handler(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own
    log = JobLog(enabled=True)
    log_end(log, Failure(ERROR, 1.0))
    log.close()
    assert capsys.readouterr() == ("", "")
