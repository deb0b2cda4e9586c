"""Ctrl-C at a worker: the first says what is waited for, the second gives the jobs back at once and says so."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dtqkit import Settings, TaskQueue
from tests import sample
from tests.command import descendants, dtqkit, living, running
from tests.faults.proxy import Proxy
from tests.wait import wait_until

APP = "tests.sample:queue"
START_S = 60.0


def ask_again(process: subprocess.Popen[bytes], said: Path) -> float:
    """Ctrl-C until it is taken for a second request; returns seconds until the process has ended."""
    first = time.monotonic()

    def ended() -> bool:
        if process.poll() is None and time.monotonic() - first > 1.1:
            process.send_signal(signal.SIGINT)
        return process.poll() is not None

    process.send_signal(signal.SIGINT)
    wait_until(lambda: "stopping: " in said.read_text())
    wait_until(ended, interval_s=0.3, timeout_s=15)
    return time.monotonic() - first - 1.1


def test_a_second_ctrl_c_gives_jobs_of_every_kind_back_at_once(
    queue: TaskQueue, settings: Settings, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with running("worker", APP, "--name", "w", log=log, settings=settings.replace(grace_s=60)) as worker:
        jobs = [task.submit(60) for task in (sample.sleep, sample.sleep_async, sample.sleep_in_thread)]
        wait_until(lambda: all(job.refresh().status == "running" for job in jobs), timeout_s=START_S)
        ask_again(worker, log)
        # Before missed heartbeats could have been noticed
        found = [(job.refresh().status, [attempt.ending for attempt in job.record.attempts]) for job in jobs]

        assert found == [("pending", ["released"])] * 3
        assert queue.workers() == ()
        assert worker.returncode == 1
    said = log.read_text()
    assert "stopping: 3 jobs are running; waiting up to 60 s; press Ctrl-C again to stop at once" in said
    assert "stopped at once: 3 jobs go back to the queue" in said


def test_without_an_answer_of_mongodb_it_ends_all_the_same_and_says_what_it_leaves(
    queue: TaskQueue, settings: Settings, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    port = urlsplit(settings.atlas_uri).port
    assert port is not None
    with Proxy(port) as proxy:
        far = settings.replace(atlas_uri=settings.atlas_uri.replace(f":{port}", f":{proxy.port}"), grace_s=60)
        with running("worker", APP, log=log, settings=far) as worker:
            job = sample.sleep.submit(60)
            wait_until(lambda: job.refresh().status == "running", timeout_s=START_S)
            proxy.set("stall")
            ask_again(worker, log)
            assert worker.returncode == 1
    assert "stopped at once: 1 job is recovered within 2 s" in log.read_text()


def test_a_supervisor_passes_the_second_ctrl_c_on_and_numbers_its_workers_by_name(
    queue: TaskQueue, settings: Settings, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    settings = settings.replace(grace_s=60)
    with running("worker", APP, "--workers", "2", "--name", "web", log=log, settings=settings) as supervisor:
        wait_until(lambda: len(queue.workers()) == 2, timeout_s=START_S)
        assert [worker.name for worker in queue.workers()] == ["web-1", "web-2"]
        jobs = [sample.sleep.submit(60) for _ in range(2)]
        wait_until(lambda: all(job.refresh().status == "running" for job in jobs))
        processes = descendants(supervisor.pid)
        ask_again(supervisor, log)

        assert supervisor.returncode == 1
        assert [job.refresh().status for job in jobs] == ["pending"] * 2
        wait_until(lambda: not living(processes))
    said = log.read_text()
    assert (
        "supervisor INFO stopping: 2 jobs are running; waiting up to 60 s; press Ctrl-C again to stop at once" in said
    )
    assert said.count("stopped at once: 1 job goes back to the queue") == 2
    assert "dtqkit: stopped at once: 2 workers returned running jobs to the queue\n" in said


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_second_ctrl_c_that_comes_soon_is_answered_and_a_third_stops_at_once(
    queue: TaskQueue, settings: Settings, tmp_path: Path, workers: str
) -> None:
    """It may be the first one, that a parent passes on late; the answer says what to do if it is not."""
    log = tmp_path / "log"
    settings = settings.replace(grace_s=60)
    with running("worker", APP, "--workers", workers, log=log, settings=settings) as worker:
        wait_until(lambda: len(queue.workers()) == int(workers), timeout_s=START_S)
        job = sample.sleep.submit(60)
        wait_until(lambda: job.refresh().status == "running")
        worker.send_signal(signal.SIGINT)
        worker.send_signal(signal.SIGINT)  # passed on by a parent: the same one
        wait_until(lambda: "stopping: " in log.read_text())
        assert "once more" not in log.read_text()

        def answered() -> bool:
            worker.send_signal(signal.SIGINT)
            return "still stopping; press Ctrl-C once more to stop at once" in log.read_text() or ended()

        def ended() -> bool:
            return worker.poll() is not None

        wait_until(answered, interval_s=0.4)
        wait_until(lambda: ended() or worker.send_signal(signal.SIGINT), interval_s=0.4, timeout_s=15)
        assert worker.returncode == 1
        assert job.refresh().status == "pending"


def test_an_orderly_stop_is_no_loss_and_a_worker_has_one_identity(
    queue: TaskQueue, settings: Settings, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with running("worker", APP, "--name", "one", log=first, settings=settings) as one:
        wait_until(lambda: " leads" in first.read_text(), timeout_s=START_S)
        (beat,) = wait_until(queue.workers)
        assert f"worker {beat.id} (process {one.pid}) serves " in first.read_text()
        assert f"worker {beat.id} leads" in first.read_text()
        with running("worker", APP, "--name", "two", log=second, settings=settings) as two:
            wait_until(lambda: len(queue.workers()) == 2, timeout_s=START_S)
            one.terminate()
            assert one.wait(20) == 0
            assert [worker.name for worker in queue.workers()] == ["two"]
            assert "stopping: no jobs are running" in first.read_text()
            assert first.read_text().rstrip().endswith(f"worker {beat.id} stopped")
            wait_until(lambda: " leads" in second.read_text(), timeout_s=START_S)
            job = sample.add.submit(1)
            assert job.result(timeout=20) == 2
            assert job.record.worker is not None
            assert job.record.worker in second.read_text()
            two.terminate()
            assert two.wait(20) == 0
    warnings = [line for line in (first.read_text() + second.read_text()).splitlines() if "WARNING" in line]
    # A leader that begins may look for a job between its insert and its push.
    assert [line for line in warnings if "lane audit" not in line] == []


def test_a_name_that_redis_or_a_log_could_not_hold_is_refused() -> None:
    for name in ("wörker", "a b", "", "x" * 81, "a\x1b[2J"):
        done = dtqkit("worker", APP, "--name", name)
        assert done.returncode == 2
        assert "a name has at most 80 ASCII letters" in done.stderr
