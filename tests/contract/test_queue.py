"""What a TaskQueue promises, whether its stores are here, behind a server or in memory: one suite, run on all three."""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Self, Unpack

import pytest

from dtqkit import (
    BatchRefused,
    Bulk,
    DuplicateJob,
    IdempotencyConflict,
    InvalidCron,
    InvalidOption,
    InvalidPause,
    InvalidPayload,
    InvalidQuery,
    InvalidSchedule,
    JobCancelled,
    JobConflict,
    JobFailed,
    JobList,
    JobNotFound,
    MatchesEverything,
    NotPaused,
    PayloadTooLarge,
    ScheduleNotFound,
    ScheduleTaken,
    Settings,
    StoreUnavailable,
    TaskQueue,
    UnknownTask,
    UnknownZone,
    WaitTimeout,
)
from dtqkit.control import JobFilters, StatsQuery, Submission
from dtqkit.control.operations import STATS, SUBMIT, SUBMIT_MANY
from dtqkit.control.schedule_operations import SCHEDULE
from dtqkit.model.schedules import Definition
from dtqkit.testing import TestQueue
from tests import follow_tasks, retry_tasks, sample
from tests.serving import TOKEN, Server, publish
from tests.wait import wait_until
from tests.workers import Workers

UNKNOWN = "0123456789abcdef01234567"


@pytest.fixture(params=["direct", "remote", "memory"])
def queue(request: pytest.FixtureRequest) -> Iterator[TaskQueue]:
    """A queue with the tasks of tests/sample.py, which are also published."""
    if request.param == "memory":
        with TestQueue() as queue:
            queue.include("tests.sample")
            yield queue
        return
    #: Of the workers, and of whatever is between them and the queue.
    behind: Settings = request.getfixturevalue("settings").replace(token=TOKEN, port=0, ws_port=0)
    with TaskQueue(behind) as local:
        local.include("tests.sample")
        publish(behind, [one.info for one in local.registry])
    if request.param == "direct":
        with TaskQueue(behind) as queue:
            queue.include("tests.sample")
            yield queue
    else:
        with Server(behind) as server, TaskQueue.connect(server.http, token=TOKEN) as queue:
            queue.include("tests.sample")
            yield queue


@pytest.fixture
def worker(request: pytest.FixtureRequest, queue: TaskQueue) -> Iterator[Workers | Advancing]:
    if isinstance(queue, TestQueue):
        with Advancing(queue) as advancing:
            yield advancing
        return
    settings: Settings = request.getfixturevalue("settings")
    with Workers(queue, settings=settings.replace(token=TOKEN)) as workers:
        yield workers


class Advancing:
    """A TestQueue runs nothing unless it is asked to: a thread asks it all the time, which is like a worker."""

    def __init__(self, queue: TestQueue) -> None:
        self._queue = queue
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stopping.wait(0.002):
            self._queue.advance(milliseconds=20)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def __exit__(self, *_: object) -> None:
        self.stop()


def test_a_job_is_run_and_its_result_comes_back(queue: TaskQueue, worker: Workers | Advancing) -> None:
    job = sample.add.submit(2, b=3)
    assert job.result(timeout=20) == 5
    assert job.status == "completed"
    again = queue.get(job.id)
    assert (again.record.result, len(again.record.attempts)) == (5, 1)


def test_a_job_can_be_awaited(queue: TaskQueue, worker: Workers | Advancing) -> None:
    async def cell() -> int:
        return await sample.add_async.submit(1)

    assert asyncio.run(cell()) == 2


def test_many_jobs_come_back_in_order(queue: TaskQueue, worker: Workers | Advancing) -> None:
    jobs = sample.add_async.map(range(1_500))
    assert jobs.results(timeout=60) == [n + 1 for n in range(1_500)]


def test_handles_keep_their_payloads_and_get_all_else(queue: TaskQueue, worker: Workers | Advancing) -> None:
    jobs = sample.add_async.map(range(30))
    jobs.results(timeout=60)
    for n, job in enumerate(jobs):
        record = job.record
        assert (record.payload, record.result, len(record.attempts)) == ({"a": n}, n + 1, 1)


def test_a_job_that_fails_says_why_and_can_be_requeued(queue: TaskQueue, worker: Workers | Advancing) -> None:
    job = sample.fail.submit("bad luck")
    with pytest.raises(JobFailed, match="bad luck") as failure:
        job.result(timeout=20)
    assert (failure.value.error_type, failure.value.task) == ("ValueError", "fail")
    assert "raise ValueError(message)" in failure.value.traceback
    dead = queue.dead_letters(task="fail")
    assert [one.id for one in dead.items] == [job.id]
    assert queue.requeue_dead(task="fail", dry_run=True).matched == 1
    assert job.requeue().id == job.id
    with pytest.raises(JobFailed):
        job.result(timeout=20)


@pytest.mark.parametrize("every_s", [0.0, 0.03])
def test_a_job_whose_status_is_polled_has_its_result_and_its_error(
    queue: TaskQueue, worker: Workers | Advancing, every_s: float
) -> None:
    for n in range(25):
        job = sample.add_async.submit(n)
        wait_until(lambda job=job: job.status == "completed", interval_s=every_s)
        assert job.record.result == n + 1
        assert len(job.record.attempts) == 1
        assert job.result(timeout=10) == n + 1
    for n in range(5):
        job = sample.fail.submit(f"no {n}")
        wait_until(lambda job=job: job.status == "failed", interval_s=every_s)
        assert job.record.error is not None
        with pytest.raises(JobFailed, match=f"ValueError: no {n}"):
            job.result(timeout=10)


def test_a_failed_job_that_is_requeued_elsewhere_goes_on(queue: TaskQueue, worker: Workers | Advancing) -> None:
    job = sample.fail.submit("once more")
    wait_until(lambda: job.status == "failed")
    before = job.record
    queue.requeue_dead(task="fail")
    wait_until(lambda: job.record.death_seq == before.death_seq + 1 and job.status == "failed", timeout_s=15)
    assert job.record.rev > before.rev
    worker.stop()
    job.requeue()
    assert job.status == "pending"


def test_a_failure_reads_as_its_cause_and_has_the_users_frames_only(
    queue: TaskQueue, worker: Workers | Advancing
) -> None:
    job = sample.fail.submit("bad page 3")
    with pytest.raises(JobFailed) as failure:
        job.result(timeout=20)
    error = failure.value
    first, blank, *rest = str(error).splitlines()
    assert (first, blank) == (f"ValueError: bad page 3 (job {job.id} fail, attempt 2)", "")
    assert [line for line in rest if line.startswith("  File ")] == [line for line in rest if "sample.py" in line]
    assert type(error.__cause__) is ValueError
    assert error.__cause__.args == ("bad page 3",)
    assert len(traceback.format_exception(error)) < 15


def test_many_jobs_are_waited_for_as_futures_are(queue: TaskQueue, worker: Workers | Advancing) -> None:
    jobs = queue.submit_many([sample.add_async.bind(1), sample.fail.bind("no"), sample.add_async.bind(2)])
    assert len(jobs.wait().not_done) == 0
    first, failure, second = jobs.results(return_exceptions=True)
    assert (first, second) == (2, 3)
    assert isinstance(failure, JobFailed)
    assert jobs.statuses == ["completed", "failed", "completed"]
    with pytest.raises(JobFailed, match="ValueError: no"):
        jobs.results()
    worker.stop()
    # To wait for a job of a TestQueue is to run it: there, they must not be due yet.
    later = sample.add_async.options(delay_s=60 if isinstance(queue, TestQueue) else 0).map([1, 2])
    done, not_done = queue.submit_many([]).wait(timeout=5)
    assert (len(done), len(not_done)) == (0, 0)
    waited = later.wait(timeout=0.1)
    assert ([j.id for j in waited.done], [j.id for j in waited.not_done]) == ([], [j.id for j in later])
    assert later.cancel() == 2
    assert later.cancel() == 0
    assert [type(error) for error in later.results(timeout=5, return_exceptions=True)] == [JobCancelled] * 2


def test_what_is_shown_of_jobs_is_how_they_are(queue: TaskQueue, worker: Workers | Advancing) -> None:
    jobs = sample.add_async.map(range(5))
    for job in jobs:
        queue.get(job.id).result(timeout=20)  # by other handles
    assert repr(jobs) == "<5 jobs: 5 completed>"
    assert repr(jobs[0]) == f"<job {jobs[0].id} add_async completed>"
    html = jobs._repr_html_()  # pyright: ignore[reportPrivateUsage]
    assert "5 completed" in str(html)


def test_map_and_starmap_bind_as_python_does(queue: TaskQueue, worker: Workers | Advancing) -> None:
    assert sample.add_async.map([1, 2], [10, 20]).results(timeout=20) == [11, 22]
    assert sample.add_async.map([1, 2], b=5).results(timeout=20) == [6, 7]
    assert sample.add_async.starmap([(1, 2), {"a": 3}, [4]]).results(timeout=20) == [3, 4, 5]
    before = len(queue.jobs().items)
    with pytest.raises(InvalidPayload, match=r"number 1: .*\$\.b") as error:
        sample.add_async.starmap([(1, 2), (1, "x")])
    assert error.value.path == "$.b"
    with pytest.raises(InvalidPayload, match="number 2 is 'ab'; starmap takes"):
        sample.add_async.starmap([(1,), (2,), "ab"])  # type: ignore[list-item]
    assert len(queue.jobs().items) == before


def test_progress_and_log_are_seen(queue: TaskQueue, worker: Workers | Advancing) -> None:
    job = sample.report_steps.submit(3)
    assert job.result(timeout=20) == "reported"
    assert {"log 1", "log 2", "log 3"} <= set(job.log())
    assert job.refresh().record.progress == 1.0


def test_a_waiting_job_is_cancelled_and_then_over(queue: TaskQueue) -> None:
    job = sample.add.submit(1)
    assert job.cancel().status == "cancelled"
    with pytest.raises(JobCancelled):
        job.result(timeout=5)
    with pytest.raises(JobConflict, match="cancelled"):
        job.cancel()
    with pytest.raises(JobConflict, match="only a failed job"):
        job.requeue()


def test_options_of_a_submit_are_recorded(queue: TaskQueue) -> None:
    before = datetime.now(UTC)
    configured = sample.add.options(
        priority="low", delay_s=60, max_attempts=7, timeout_s=9, idempotency_key="k", tags=["a", "b"]
    )
    job = configured.submit(1).record
    assert (job.priority, job.status, job.max_attempts, job.timeout_s) == ("low", "scheduled", 7, 9)
    assert (job.tags, job.idempotency_key) == (("a", "b"), "k")
    assert job.due_at is not None
    assert 55 < (job.due_at - before).total_seconds() < 75
    assert configured.submit(1).id == job.id
    with pytest.raises(IdempotencyConflict, match="'k'"):
        configured.submit(2)


def test_listings_filter_and_page(queue: TaskQueue) -> None:
    jobs = sample.add.options(tags=["listed"]).map(range(5))
    sample.noop.options(priority="high").submit()
    first = queue.jobs(task="add", limit=3)
    rest = queue.jobs(task="add", limit=3, cursor=first.cursor)
    assert [job.id for job in first.items + rest.items] == [job.id for job in reversed(jobs)]
    assert rest.cursor is None
    assert [job.task for job in queue.jobs(priority="high").items] == ["noop"]
    assert len(queue.jobs(status="pending").items) == 6
    assert len(queue.jobs(q="listed").items) == 5
    assert [job.id for job in queue.jobs(q=jobs[0].id).items] == [jobs[0].id]
    assert queue.jobs(status="running").items == ()
    assert len(queue.jobs(since="1h", status="pending", priority="medium").items) == 5


def test_a_search_finds_by_tag_key_and_id_exact_or_by_their_beginning(queue: TaskQueue) -> None:
    by_tag = sample.add.options(tags=["zebra", "invoice-1"]).submit(1)
    by_key = sample.add.options(idempotency_key="invoice-2").submit(2)
    sample.add.options(tags=["a", "zebra"], idempotency_key="order").submit(3)

    def found(**filters: Unpack[JobFilters]) -> list[str]:
        return [job.id for job in queue.jobs(**filters).items]

    assert found(q="invoice") == [by_key.id, by_tag.id]
    assert found(q="invoice-1") == [by_tag.id]
    assert found(q="invoice", status="completed") == []
    assert found(q="invoice", status="pending", task="add", priority="medium") == [by_key.id, by_tag.id]
    assert found(q=by_tag.id) == [by_tag.id]
    assert found(q=by_tag.id[:10])[-1] == by_tag.id
    assert found(q="voice") == []


def test_depths_tasks_and_workers(queue: TaskQueue, worker: Workers | Advancing) -> None:
    assert {"add", "fail"} <= {info.name for info in queue.tasks()}
    beats = wait_until(queue.workers)
    # A TestQueue has a worker of its own, also while nothing asks it to work.
    assert [beat.name for beat in beats] == ["test-worker" if isinstance(queue, TestQueue) else "w1"]
    worker.stop()
    sample.add.options(delay_s=100).submit(1)
    depths = queue.depths()
    assert (depths.medium, depths.scheduled) == (0, 1)


def test_history_has_a_row_an_attempt(queue: TaskQueue, worker: Workers | Advancing) -> None:
    sample.fail_until.submit(3).result(timeout=20)
    sample.add.submit(1).result(timeout=20)
    rows = queue.history(task="fail_until")
    assert list(rows["ending"]) == ["failed", "failed", "completed"]
    assert list(rows["number"]) == [1, 2, 3]
    assert (rows["wait_s"] >= 0).all()
    assert len(queue.history()) == 4
    assert queue.history(task="nobody").empty


def test_a_history_has_the_columns_that_are_asked_for(queue: TaskQueue, worker: Workers | Advancing) -> None:
    sample.add.options(tags=["a", "b"]).submit(1, b=2).result(timeout=20)
    sample.fail_until.submit(2).result(timeout=20)
    usual = list(queue.history().columns)
    assert usual[:6] == ["job", "task", "priority", "status", "number", "worker"]
    assert {"claimed_at", "started_at"} < set(usual)
    assert not {"payload", "tags", "result"} & set(usual)
    wanted = ["result", "payload", "task", "tags", "number", "wait_s", "ended_at"]
    rows = queue.history(columns=wanted)
    assert list(rows.columns) == wanted
    (added,) = rows[rows["task"] == "add"].to_dict("records")
    assert (added["result"], added["payload"], list(added["tags"])) == (3, {"a": 1, "b": 2}, ["a", "b"])
    tried = rows[rows["task"] == "fail_until"]
    assert [r is None or r != r for r in tried["result"]] == [True, False]
    for frame in (queue.history(), queue.history(task="nobody")):
        assert {str(frame[c].dtype)[-5:] for c in frame.columns if str(c).endswith("_at")} == {" UTC]"}
        assert {str(frame[c].dtype) for c in frame.columns if str(c).endswith("_s")} == {"float64"}
    with pytest.raises(InvalidQuery, match=r"there is no column 'colour'; there are job, .*payload, tags, result"):
        queue.history(columns=["task", "colour"])


def test_stats_count_what_has_ended(queue: TaskQueue, worker: Workers | Advancing) -> None:
    sample.add_async.map(range(20)).results(timeout=20)
    stats = queue.run(queue.core.control.ask(STATS, StatsQuery(window_s=60)))
    assert (stats.completed, stats.failed, [one.task for one in stats.tasks]) == (20, 0, ["add_async"])
    assert stats.tasks[0].run_p95_s is not None

    def forecast() -> list[float | None]:
        return [one.drain_s for one in queue.run(queue.core.control.ask(STATS, StatsQuery(window_s=60))).forecast]

    wait_until(lambda: forecast() == [0.0, 0.0, 0.0])  # a worker on a busy machine takes an id out a moment later


# -- errors are the same, by class, message and what they carry


def test_an_unknown_job_is_not_found(queue: TaskQueue) -> None:
    for job_id in (UNKNOWN, "nonsense"):
        with pytest.raises(JobNotFound) as error:
            queue.get(job_id)
        assert error.value.job_id == job_id
        assert str(error.value) == f"no job has the id {job_id!r}"


def test_an_unknown_task_has_near_names(queue: TaskQueue) -> None:
    with pytest.raises(UnknownTask) as error:
        queue.run(queue.core.control.ask(SUBMIT, Submission(task="add_asinc")))
    assert (error.value.task, error.value.near[0]) == ("add_asinc", "add_async")
    assert "did you mean 'add_async'" in str(error.value)


def test_a_payload_that_does_not_fit_names_the_place(queue: TaskQueue) -> None:
    with pytest.raises(InvalidPayload) as error:
        queue.run(queue.core.control.ask(SUBMIT, Submission(task="add", payload={"a": "x"})))
    assert (error.value.task, error.value.path) == ("add", "$.a")


def test_a_payload_that_is_too_large_says_by_how_much(queue: TaskQueue) -> None:
    with pytest.raises(PayloadTooLarge) as error:
        sample.fail.submit("x" * 300_000)
    assert error.value.allowed_bytes == 256 * 1024
    assert error.value.size_bytes > 300_000


def test_a_wrong_filter_is_an_invalid_query(queue: TaskQueue) -> None:
    with pytest.raises(InvalidQuery, match="cursor"):
        queue.jobs(cursor="nonsense")
    with pytest.raises(InvalidQuery, match="since"):
        queue.jobs(since="yesterday")
    with pytest.raises(InvalidQuery, match="since"):
        queue.history(since="yesterday")


def test_one_refused_job_of_many_leaves_the_others(queue: TaskQueue) -> None:
    items = queue.run(
        queue.core.control.ask(
            SUBMIT_MANY,
            (Submission(task="noop"), Submission(task="nobody"), Submission(task="add", payload={"a": 1})),
        )
    )
    assert [item.refused.code if item.refused else None for item in items] == [None, "unknown_task", None]


def test_a_bulk_that_is_partly_refused_says_which_and_why_and_has_the_others(queue: TaskQueue) -> None:
    keyed = sample.add.options(idempotency_key="one")
    with pytest.raises(
        BatchRefused, match=r"1 of 3 jobs were refused \(the other 2 are accepted\); number 1: "
    ) as error:
        queue.submit_many([keyed.bind(1), keyed.bind(2), sample.add.bind(3)])
    ((index, why),) = error.value.refused
    assert (index, type(why)) == (1, IdempotencyConflict)
    assert "'one'" in str(why)
    assert isinstance(error.value.accepted, JobList)
    assert [job.record.payload for job in error.value.accepted] == [{"a": 1}, {"a": 3}]
    assert not isinstance(error.value, StoreUnavailable)


def test_a_wrong_filter_is_named_with_those_that_there_are(queue: TaskQueue) -> None:
    wrong: Any = queue
    for listing, known in (
        (wrong.jobs, "status, task"),
        (wrong.dead_letters, "status"),
        (wrong.requeue_dead, "dry_run"),
    ):
        with pytest.raises(InvalidQuery, match=f"there is no filter 'colour'; there are .*{known}"):
            listing(colour="red")
    with pytest.raises(InvalidQuery, match="status"):
        wrong.jobs(status="urgent")


def test_a_schedule_is_made_paused_run_and_removed(queue: TaskQueue, worker: Workers) -> None:
    schedule = queue.schedule("pulse", sample.add_async.options(tags=("t",)).bind(4), every_s=1, overlap="skip")
    runs = wait_until(lambda: schedule.runs(2))
    assert (runs[0].payload, runs[0].tags, runs[0].schedule) == ({"a": 4}, ("t",), "pulse")
    assert runs[0].scheduled_for is not None
    assert runs[0].scheduled_for.tzinfo is not None
    assert queue.get(runs[0].id).record.scheduled_for == runs[0].scheduled_for
    assert schedule.pause("for a test").record.paused is not None
    assert schedule.run_now().result(timeout=20) == 5
    assert schedule.resume().record.paused is None
    assert [one.name for one in queue.schedules()] == ["pulse"]
    first, second = queue.schedule_of("pulse").next_runs(2)
    assert (second - first).total_seconds() == 1
    found = schedule.backfill(first - timedelta(seconds=4), first)
    assert found.times == found.enqueued + found.found
    schedule.remove()
    with pytest.raises(ScheduleNotFound, match="'pulse'"):
        queue.schedule_of("pulse")
    with pytest.raises(ScheduleNotFound):
        queue.schedule_of("no/such name")


def test_a_schedule_that_cannot_be_is_refused_by_its_own_error(queue: TaskQueue) -> None:
    wanted = {"name": "s", "task": "add", "payload": {"a": 1}, "every_s": 60.0}
    for fields, kind, field in (
        ({"every_s": None, "cron": "61 * * * *"}, InvalidCron, "cron"),
        ({"tz": "Mars"}, UnknownZone, "tz"),
        ({"jitter_s": -1.0}, InvalidSchedule, "jitter_s"),
        ({"catch_up_s": -1.0}, InvalidSchedule, "catch_up"),
        ({"name": "a b"}, InvalidSchedule, "name"),
        ({"options": {"priority": "urgent"}}, InvalidSchedule, "options"),
        ({"payload": {"a": "x"}}, InvalidPayload, None),
        ({"task": "ad"}, UnknownTask, None),
    ):
        with pytest.raises(kind) as error:
            queue.run(queue.core.control.ask(SCHEDULE, Definition(**{**wanted, **fields})))
        if field is not None:
            assert getattr(error.value, "field") == field  # noqa: B009 - it is not in all of them
    queue.schedule("s", sample.add.bind(1), every_s=60)
    with pytest.raises(ScheduleTaken, match="runs task 'add' already"):
        queue.schedule("s", sample.noop.bind(), every_s=60)


# -- unique jobs


def test_a_unique_job_is_found_by_the_next_submit_which_says_so(queue: TaskQueue) -> None:
    once = sample.add.options(unique="active", unique_key="k")
    first, again = once.submit(1), once.submit(2)
    assert (again.id, first.was_duplicate, again.was_duplicate) == (first.id, False, True)
    assert again.refresh().was_duplicate
    record = queue.get(first.id).record
    assert (record.payload, record.unique, record.unique_key, record.duplicates) == ({"a": 1}, "active", "k", 1)
    assert not queue.get(first.id).was_duplicate


def test_a_duplicate_that_is_to_be_an_error_names_the_job(queue: TaskQueue) -> None:
    once = sample.add.options(unique="window", unique_for_s=60, on_duplicate="raise")
    first = once.submit(1)
    with pytest.raises(DuplicateJob, match=first.id) as refused:
        once.submit(1)
    assert refused.value.job_id == first.id
    with pytest.raises(BatchRefused) as some:
        once.map([1, 2])
    ((index, error),) = some.value.refused
    assert (index, type(error), len(some.value.accepted)) == (0, DuplicateJob, 1)


def test_a_debounced_job_is_replaced_by_each_submit(queue: TaskQueue) -> None:
    calm = sample.add.options(debounce_s=60, unique_key="doc-7")
    first, second = calm.submit(1), calm.submit(2)
    assert (second.id, second.was_duplicate, second.record.payload) == (first.id, True, {"a": 2})
    assert second.record.due_at is not None
    assert first.record.due_at is not None
    assert second.record.due_at > first.record.due_at or first.refresh().record.rev == second.record.rev


def test_the_arguments_that_make_jobs_the_same_are_named(queue: TaskQueue) -> None:
    once = sample.add.options(unique="active", unique_by=("a",))
    first, again = once.submit(1, 2), once.submit(1, 3)
    assert (again.id, again.was_duplicate) == (first.id, True)
    assert once.submit(2, 2).id != first.id
    wrong = Submission(task="add", payload={"a": 1}, unique="active", unique_by=("c",))
    with pytest.raises(InvalidOption, match="unique_by names 'c', which task 'add' does not have; it has a, b"):
        queue.run(queue.core.control.ask(SUBMIT, wrong))


def test_the_backoff_of_a_call_is_that_of_its_jobs(queue: TaskQueue) -> None:
    record = queue.get(sample.add.options(backoff=[1, 60], max_attempts=2).submit(1).id).record
    assert (record.backoff, record.max_attempts) == ((1.0, 60.0), 2)
    record = queue.get(sample.add.options(backoff="fixed", backoff_s=7, backoff_max_s=9).submit(1).id).record
    assert (record.backoff, record.backoff_s, record.backoff_max_s) == ("fixed", 7.0, 9.0)
    with pytest.raises(InvalidOption, match="backoff is 'often'; it is one of"):
        sample.add.options(backoff="often")  # pyright: ignore[reportArgumentType]


def test_a_bulk_of_unique_jobs_is_answered_one_by_one(queue: TaskQueue) -> None:
    jobs = sample.add.options(unique="active").map([1, 2, 1])
    assert [job.was_duplicate for job in jobs] == [False, False, True]
    assert jobs[2].id == jobs[0].id


def test_a_dead_unique_job_is_not_requeued_beside_another_one(queue: TaskQueue, worker: Workers) -> None:
    once = sample.fail.options(unique="active", unique_key="k", max_attempts=1)
    dead = once.submit("no")
    wait_until(lambda: dead.refresh().status == "failed")
    other = sample.fail.options(unique="active", unique_key="k", delay_s=60).submit("no")
    with pytest.raises(DuplicateJob, match=f"{dead.id} is unique, and job {other.id}"):
        dead.requeue()


def test_options_that_do_not_go_together_are_refused_where_the_task_is_known(queue: TaskQueue) -> None:
    wrong = Submission(task="add", payload={"a": 1}, unique_for_s=5)
    with pytest.raises(InvalidOption, match=r"unique_for_s is 5(\.0)?, but unique is missing: add unique="):
        queue.run(queue.core.control.ask(SUBMIT, wrong))
    items = queue.run(queue.core.control.ask(SUBMIT_MANY, (wrong, Submission(task="add", payload={"a": 1}))))
    assert [item.refused is not None and item.refused.code for item in items] == ["invalid_option", False]


def test_retry_rules_and_what_follows_are_the_same_everywhere(request: pytest.FixtureRequest, queue: TaskQueue) -> None:
    queue.include(retry_tasks)
    queue.include(follow_tasks)
    request.getfixturevalue("worker")
    wait_until(lambda: {"in_coroutine", "alert"} <= {info.name for info in queue.tasks()}, timeout_s=20)
    job = retry_tasks.in_coroutine.options(on_failure=follow_tasks.alert).submit("give up")
    with pytest.raises(JobFailed, match="GiveUp: no such customer"):
        job.result(timeout=20)
    wait_until(lambda: job.refresh().record.followed_by, timeout_s=20)
    assert job.record.error is not None
    assert job.record.error.final == "the task raised GiveUp"
    assert queue.get(job.record.followed_by[0]).result(timeout=20) == "in_coroutine failed GiveUp"
    snoozed = retry_tasks.in_coroutine.submit("snooze")
    assert snoozed.result(timeout=20) == 5
    assert snoozed.refresh().record.snoozes == 4


# -- pauses, and changes of waiting and of many jobs


def test_a_task_is_paused_and_resumed(queue: TaskQueue, worker: Workers) -> None:
    made = queue.pause(task="add_async", where={"a": 7}, reason="not now")
    assert (str(made), made.reason) == ("task 'add_async' where a=7", "not now")
    assert [pause.id for pause in queue.pauses()] == [made.id]
    with pytest.raises(InvalidPause) as refused:
        queue.pause(task="add_asink")
    assert refused.value.field == "task"
    with pytest.raises(NotPaused, match="task 'add_async' is not paused; paused is task 'add_async' where a=7"):
        queue.resume(task="add_async")
    wait_until(lambda: sample.add_async.submit(7).refresh() and held_back(queue))
    assert queue.resume(task="add_async", where={"a": 7}).id == made.id
    wait_until(lambda: not held_back(queue))


def held_back(queue: TaskQueue) -> bool:
    """Whether some jobs wait for longer than a worker would need."""
    sample.add_async.submit(8).result(timeout=20)
    return bool(queue.jobs(task="add_async", status="pending").items)


def test_why_a_paused_job_waits_is_said(queue: TaskQueue) -> None:
    queue.pause(task="noop", reason="the printer is down")
    job = sample.noop.submit()
    with pytest.raises(WaitTimeout, match=r"task 'noop' is paused since .*: the printer is down"):
        job.result(timeout=1)
    queue.resume(task="noop")


def test_a_waiting_job_is_changed(queue: TaskQueue) -> None:
    job = sample.add.submit(1)
    job.update(priority="high", tags=["x"], payload={"a": 2})
    assert (job.record.priority, job.record.tags, job.record.payload) == ("high", ("x",), {"a": 2})
    with pytest.raises(InvalidPayload, match=r"\$\.a"):
        job.update(payload={"a": "two"})
    job.update({"priority": "low", "payload": {"a": 3}})
    assert (job.record.priority, job.record.payload) == ("low", {"a": 3})
    with pytest.raises(InvalidOption, match="timeout_s cannot be changed; what can: priority, delay_s, tags, payload"):
        job.update({"timeout_s": 3})  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidOption, match="the changes are 'low'; they are a dict"):
        queue.update_many("low", task="add")  # pyright: ignore[reportArgumentType]
    job.cancel()
    with pytest.raises(JobConflict, match="is cancelled: a job that is over cannot be changed"):
        job.update(delay_s=5)


def test_jobs_are_changed_by_a_filter(queue: TaskQueue) -> None:
    jobs = sample.add.map(range(5))
    assert queue.cancel_many(task="add", dry_run=True).matched == 5
    assert queue.update_many({"priority": "low"}, task="add").changed == 5
    assert queue.update_many({"tags": ["x"]}, where={"a": 3}) == Bulk(matched=1, changed=1)
    assert queue.cancel_many(where={"b": 1}, dry_run=True).matched == 5, "its default"
    with pytest.raises(InvalidQuery, match=r"where has .3. for 'a'.*write 3"):
        queue.cancel_many(task="add", where={"a": "3"})
    with pytest.raises(InvalidQuery, match="where is 'a=3'; it is a dict"):
        queue.cancel_many(where="a=3")  # pyright: ignore[reportArgumentType]
    seen: list[Bulk] = []
    assert queue.cancel_many(priority="low", progress=seen.append) == Bulk(matched=5, changed=5)
    assert seen == [Bulk(matched=5, changed=5)]
    assert queue.delete_many(ids=[job.id for job in jobs]).changed == 5
    assert queue.requeue_many(task="add") == Bulk()
    with pytest.raises(MatchesEverything, match="or all=True"):
        queue.delete_many()
    with pytest.raises(InvalidQuery, match="status is 'running'"):
        queue.delete_many(status="running")
