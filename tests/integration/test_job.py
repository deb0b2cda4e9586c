"""A job's way from submit to its end, on real servers: to be read as documentation."""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import date
from pathlib import Path

import pytest

from dtqkit import JobFailed, JobNotFound, Priority, Settings, TaskQueue, UnknownTask
from dtqkit.control import Submission
from dtqkit.control.operations import SUBMIT
from dtqkit.direct import listing
from tests import sample
from tests.wait import wait_until
from tests.workers import Workers


def test_a_function_is_still_a_function() -> None:
    assert sample.add(2, b=3) == 5


def test_a_job_gives_its_result(queue: TaskQueue, worker: Workers) -> None:
    job = sample.add.submit(2, b=3)
    assert job.result(timeout=20) == 5

    record = job.refresh().record
    assert record.status == "completed"
    (attempt,) = record.attempts
    assert (attempt.number, attempt.ending) == (1, "completed")
    assert attempt.wait_s is not None
    assert attempt.wait_s >= 0
    assert attempt.run_s is not None
    assert attempt.run_s >= 0


@pytest.mark.parametrize("task", [sample.add, sample.add_async, sample.add_in_thread], ids=str)
def test_coroutines_children_and_threads_all_run(queue: TaskQueue, worker: Workers, task: sample.add.__class__) -> None:
    assert task.submit(40, 2).result(timeout=20) == 42


def test_a_def_task_runs_in_a_child_of_the_worker(queue: TaskQueue, worker: Workers) -> None:
    assert sample.where.submit().result(timeout=20)["parent"] == os.getpid()


@pytest.mark.parametrize("task", [sample.add, sample.add_async, sample.add_in_thread], ids=str)
def test_integers_beyond_32_bits_reach_the_task(queue: TaskQueue, worker: Workers, task: sample.add.__class__) -> None:
    assert task.submit(2**40, 1).result(timeout=20) == 2**40 + 1


def test_a_child_that_dies_while_it_is_idle_fails_no_job(queue: TaskQueue, worker: Workers) -> None:
    child = sample.where.submit().result(timeout=20)["pid"]
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{child}").exists(), timeout_s=10)

    again = sample.where.submit()

    assert again.result(timeout=20)["pid"] != child
    assert again.refresh().record.failures == 0


def test_arguments_and_results_keep_their_types(queue: TaskQueue, worker: Workers) -> None:
    job = sample.typed.submit(date(2026, 1, 31), sample.Point(11, 7))
    assert job.result(timeout=20) == [sample.Point(42, 7)]


def test_a_job_that_fails_is_tried_again_until_it_is_dead(queue: TaskQueue, worker: Workers) -> None:
    job = sample.fail.submit("no paper")
    with pytest.raises(JobFailed, match="ValueError: no paper") as failure:
        job.result(timeout=20)
    assert "raise ValueError(message)" in failure.value.traceback
    assert "dtqkit/worker" not in failure.value.traceback

    record = job.refresh().record
    assert [a.ending for a in record.attempts] == ["failed", "failed"]
    assert (record.failures, record.losses, record.death_seq) == (2, 0, 1)
    dead_letters = queue.dead_letters()
    assert [dead.id for dead in dead_letters.items] == [job.id]


def test_a_job_that_fails_at_first_succeeds_later(queue: TaskQueue, worker: Workers) -> None:
    job = sample.fail_until.submit(3)
    assert job.result(timeout=20) == 3
    record = job.refresh().record
    assert [a.ending for a in record.attempts] == ["failed", "failed", "completed"]
    assert record.claim_number == 3


def test_a_dead_letter_can_be_requeued(queue: TaskQueue, worker: Workers, mongo: object) -> None:
    job = sample.fail.submit("again")
    with pytest.raises(JobFailed):
        job.result(timeout=20)
    job.requeue()
    with pytest.raises(JobFailed):
        job.result(timeout=20)
    record = job.refresh().record
    assert len(record.attempts) == 4
    assert (record.failures, record.death_seq) == (2, 2)


def test_a_delayed_job_does_not_start_before_its_time(queue: TaskQueue, worker: Workers) -> None:
    job = sample.add_async.options(delay_s=0.7).submit(1, 1)
    assert job.refresh().status == "scheduled"
    assert job.result(timeout=20) == 2
    record = job.refresh().record
    assert record.started_at is not None
    assert (record.started_at - record.created_at).total_seconds() >= 0.7


def test_the_most_urgent_lane_comes_first_and_each_is_first_in_first_out(queue: TaskQueue) -> None:
    order: list[tuple[Priority, int]] = [("low", 1), ("medium", 2), ("high", 3), ("low", 4), ("high", 5)]
    jobs = {n: sample.add_async.options(priority=p).submit(n) for p, n in order}
    with Workers(queue, settings=queue.settings.replace(concurrency=1)):
        for job in jobs.values():
            job.result(timeout=20)
    claimed = sorted(jobs, key=lambda n: jobs[n].refresh().record.claimed_at or 0)
    assert claimed == [3, 5, 2, 1, 4]


def test_a_worker_helps_other_lanes_when_its_own_is_empty(queue: TaskQueue) -> None:
    job = sample.add_async.options(priority="low").submit(1)
    with Workers(queue, lanes=("high", "medium", "low")):
        assert job.result(timeout=20) == 2


def test_a_strict_worker_leaves_other_lanes_alone(queue: TaskQueue) -> None:
    low = sample.add_async.options(priority="low").submit(1)
    high = sample.add_async.options(priority="high").submit(1)
    with Workers(queue, lanes=("high",)):
        assert high.result(timeout=20) == 2
        assert low.refresh().status == "pending"


def test_a_map_gives_its_results_in_order(queue: TaskQueue, worker: Workers) -> None:
    jobs = sample.add_async.map(range(300))
    assert jobs.results(timeout=60) == [n + 1 for n in range(300)]


def test_jobs_are_yielded_as_they_complete(queue: TaskQueue, worker: Workers) -> None:
    jobs = queue.submit_many(sample.sleep_async.bind(s) for s in (0.6, 0.01))
    assert [job.id for job in jobs.as_completed(timeout=20)] == [jobs[1].id, jobs[0].id]


def test_results_that_do_not_come_in_time_raise_and_the_job_goes_on(queue: TaskQueue) -> None:
    job = sample.add_async.submit(1)
    late = (
        rf"^job {job.id} \(add_async\) is not over after 0.1 s: it is pending since .*; no workers are running: start"
    )
    with pytest.raises(TimeoutError, match=late):
        job.result(timeout=0.1)
    jobs = sample.add_async.map([1, 2])
    with pytest.raises(TimeoutError, match=r"^not all are over after 0.1 s: 2 jobs: 2 pending; no workers are running"):
        jobs.results(timeout=0.1)
    with pytest.raises(TimeoutError, match=rf"^job {jobs[0].id} \(add_async\) is not over after 0.1 s: it is pending"):
        list(jobs[:1].as_completed(timeout=0.1))
    with Workers(queue):
        assert job.result(timeout=20) == 2


def test_progress_and_log_are_kept(queue: TaskQueue, worker: Workers) -> None:
    job = sample.report_steps.submit(3)
    assert job.result(timeout=20) == "reported"
    record = job.refresh().record
    assert (record.progress, record.progress_message) == (1.0, "step 3")
    assert job.log() == ("log 1", "log 2", "log 3", "printed", "to stderr")


def test_a_long_log_keeps_its_end_and_says_what_was_cut(queue: TaskQueue, worker: Workers) -> None:
    job = sample.chatter.submit(2_000)
    job.result(timeout=20)
    lines = job.log()
    assert lines[-1] == "line 1999"
    assert "1500 earlier lines were not kept" in lines[0]


def test_an_unknown_job_is_not_found(queue: TaskQueue) -> None:
    with pytest.raises(JobNotFound, match="6ca111111111111111111111"):
        queue.get("6ca111111111111111111111")
    with pytest.raises(JobNotFound, match="nonsense"):
        queue.get("nonsense")


def test_an_unknown_task_is_refused_with_the_nearest_name(queue: TaskQueue) -> None:
    with pytest.raises(UnknownTask, match="sleep"):
        queue.run(queue.core.control.ask(SUBMIT, Submission(task="slep")))


def test_a_job_outlives_the_queue_that_submitted_it(queue: TaskQueue, worker: Workers) -> None:
    job = sample.add.submit(20, 22)
    with TaskQueue(queue.settings) as another:
        assert another.get(job.id).result(timeout=20) == 42


def test_two_namespaces_on_the_same_servers_never_meet(queue: TaskQueue, settings: Settings, mongo: object) -> None:
    with TaskQueue(settings.replace(namespace=f"{settings.namespace}b")) as other, Workers(other):
        mine = sample.add_async.submit(1)
        other.include("tests.sample")
        theirs = sample.add_async.submit(2)
        assert theirs.result(timeout=20) == 3
        assert mine.refresh().status == "pending"
        with pytest.raises(JobNotFound):
            other.get(mine.id)
        assert [j.id for j in other.jobs().items] == [theirs.id]
    queue.include("tests.sample")


def test_an_idempotency_key_gives_the_first_job_again(queue: TaskQueue) -> None:
    keyed = sample.add_async.options(idempotency_key="once")
    first = keyed.submit(1, 2)
    assert keyed.submit(1, 2).id == first.id
    with pytest.raises(Exception, match="has another payload"):
        keyed.submit(1, 3)
    assert len(queue.jobs().items) == 1


def test_a_queue_works_inside_a_running_loop(queue: TaskQueue, worker: Workers) -> None:
    async def cell() -> int:
        job = sample.add_async.submit(40, 1)
        return await job + 1

    assert asyncio.run(cell()) == 42


def test_a_stopping_worker_gives_back_what_it_cannot_finish(queue: TaskQueue) -> None:
    with Workers(queue, settings=queue.settings.replace(grace_s=0.2)) as first:
        job = sample.sleep_async.submit(1.5)
        wait_until(lambda: job.refresh().status == "running")
        first.stop()
    record = job.refresh().record
    assert record.status == "pending"
    assert [a.ending for a in record.attempts] == ["released"]
    assert (record.failures, record.losses) == (0, 0)
    with Workers(queue):
        assert job.result(timeout=20) == "slept"


def test_a_stopping_worker_finishes_what_it_can(queue: TaskQueue) -> None:
    with Workers(queue) as first:
        job = sample.sleep_async.submit(0.5)
        wait_until(lambda: job.refresh().status == "running")
        first.stop()
    assert job.refresh().status == "completed"


def test_a_history_has_a_row_an_attempt(queue: TaskQueue, worker: Workers) -> None:
    sample.add.submit(1).result(timeout=20)
    sample.fail_until.submit(2).result(timeout=20)
    history = queue.history(since="1h")
    assert sorted(history["ending"]) == ["completed", "completed", "failed"]
    assert (history["wait_s"] >= 0).all()
    assert list(history.columns)[:4] == ["job", "task", "priority", "status"]


def test_workers_and_depths_can_be_seen(queue: TaskQueue, worker: Workers) -> None:
    (beat,) = wait_until(queue.workers)
    assert (beat.name, beat.pid, beat.lanes[0]) == ("w1", os.getpid(), "high")
    assert beat.age_s < 5
    assert queue.depths().high == 0


def test_a_job_runs_in_the_directory_of_its_worker(queue: TaskQueue, worker: Workers) -> None:
    assert sample.directory.submit().result(timeout=20) == str(Path.cwd())


def test_a_search_that_matches_more_than_is_looked_through_at_once_goes_on(
    queue: TaskQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_MATCHES", 4)
    wanted = [job.id for job in sample.add.options(tags=["many"]).map(range(10))]
    urgent = sample.add.options(tags=["many"], priority="high").map(range(3))
    pages = [queue.jobs(q="many", priority="medium", limit=3)]
    while (cursor := pages[-1].cursor) is not None:
        pages.append(queue.jobs(q="many", priority="medium", limit=3, cursor=cursor))
    assert [job.id for page in pages for job in page.items] == wanted[::-1]
    assert len(urgent) == 3
