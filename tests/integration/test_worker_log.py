"""What a worker process logs of its jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from dtqkit import JobFailed, Settings, TaskQueue
from tests import sample
from tests.command import running
from tests.wait import wait_until

APP = "tests.sample:queue"


@pytest.mark.parametrize("on", [True, False])
def test_a_worker_logs_how_each_job_ended(queue: TaskQueue, settings: Settings, tmp_path: Path, on: bool) -> None:
    log = tmp_path / "log"
    with running("worker", APP, log=log, settings=settings.replace(log_jobs=on)) as worker:
        good = sample.add_async.submit(1)
        assert good.result(timeout=60) == 2
        bad = sample.fail.submit("no")
        with pytest.raises(JobFailed):
            bad.result(timeout=60)
        wait_until(lambda: not on or "not tried again" in log.read_text())
        worker.terminate()
        assert worker.wait(30) == 0
    logged = log.read_text()
    assert (f"add_async {good.id} completed in 0.0" in logged) == on
    assert (f"fail {bad.id} failed in " in logged) == on
    assert logged.count("Traceback (most recent call last)") == (2 if on else 0)
    if on:
        assert "; failure 1 of 2, again in " in logged
        assert "; failure 2 of 2, not tried again" in logged
        assert "tests/sample.py" in logged
