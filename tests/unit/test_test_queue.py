"""TestQueue: jobs in memory, under a virtual clock."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import dtqkit
from dtqkit import (
    Context,
    GiveUp,
    JobCancelled,
    JobConflict,
    JobEnd,
    JobFailed,
    QueueClosed,
    RetryAfter,
    Snooze,
    WaitTimeout,
)
from dtqkit.control import StatsQuery
from dtqkit.control.operations import HEALTH, SNAPSHOT, STATS, TOTALS
from dtqkit.testing import TestQueue
from dtqkit.testing.broker import MemoryBroker

MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def queue() -> Iterator[TestQueue]:
    with TestQueue(MIDNIGHT) as queue:
        yield queue


def flaky(queue: TestQueue, fails: int) -> tuple[Any, list[datetime]]:
    """A task that fails so often, and when its attempts were."""
    times: list[datetime] = []

    @queue.task(name="flaky", max_attempts=5, backoff_s=3_600, backoff_max_s=86_400)
    def task() -> str:
        times.append(queue.now())
        if len(times) <= fails:
            raise ConnectionError("away")
        return "done"

    return task, times


# -- time


def test_nothing_runs_before_it_is_asked_to_and_time_stands_still(queue: TestQueue) -> None:
    task, times = flaky(queue, 1)
    job = task.submit()
    assert (job.status, times, queue.now()) == ("pending", [], MIDNIGHT)
    queue.run_until_idle()
    assert (job.status, times, queue.now()) == ("scheduled", [MIDNIGHT], MIDNIGHT)
    queue.run_until_idle()
    assert times == [MIDNIGHT]
    queue.advance(hours=1)
    assert (job.status, job.result(), queue.now()) == ("completed", "done", MIDNIGHT + timedelta(hours=1))


def test_retries_run_each_at_its_time(queue: TestQueue) -> None:
    task, times = flaky(queue, 4)
    job = task.submit()
    queue.advance(days=3)
    assert job.status == "completed"
    record = job.record
    assert [attempt.ending for attempt in record.attempts] == ["failed"] * 4 + ["completed"]
    assert [attempt.started_at for attempt in record.attempts] == times
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(wait <= timedelta(hours=1) * 2**n for n, wait in enumerate(waits))
    assert queue.now() == MIDNIGHT + timedelta(days=3)


def test_delayed_jobs_run_in_the_order_of_their_times_and_by_lane_at_one_time(queue: TestQueue) -> None:
    ran: list[tuple[str, datetime]] = []

    @queue.task
    def note(name: str) -> None:
        ran.append((name, queue.now()))

    note.options(delay_s=7_200).submit("two hours")
    note.options(delay_s=60, priority="low").submit("low")
    note.options(delay_s=60, priority="high").submit("high")
    note.submit("now")
    note.submit("now too")
    queue.advance(timedelta(hours=1), hours=1)
    later = [timedelta(), timedelta(), timedelta(minutes=1), timedelta(minutes=1), timedelta(hours=2)]
    names = ["now", "now too", "high", "low", "two hours"]
    assert ran == [(name, MIDNIGHT + after) for name, after in zip(names, later, strict=True)]


def test_a_job_that_is_due_at_the_end_runs_and_one_that_is_due_later_does_not(queue: TestQueue) -> None:
    @queue.task
    def nothing() -> None: ...

    at_the_end, later = nothing.options(delay_s=60).submit(), nothing.options(delay_s=60.001).submit()
    queue.advance(minutes=1)
    assert (at_the_end.status, later.status) == ("completed", "scheduled")
    with pytest.raises(ValueError, match="go back"):
        queue.advance(seconds=-1)
    wrong: Any = 3
    for clock in (datetime(2026, 1, 1), wrong):  # noqa: DTZ001
        with pytest.raises(ValueError, match=r"clock is .*; it is a time with a zone"):
            TestQueue(clock)


def test_a_wait_lets_as_much_time_pass_as_it_must(queue: TestQueue) -> None:
    task, times = flaky(queue, 3)
    assert task.submit().result() == "done"
    assert queue.now() == times[-1] > MIDNIGHT
    begin = queue.now()
    waiting = task.options(delay_s=3_600).submit()
    with pytest.raises(WaitTimeout, match=r"not over after 60 s: it is scheduled for"):
        waiting.result(timeout=60)
    assert queue.now() == begin + timedelta(minutes=1)
    assert waiting.result(timeout=3_600) == "done"


def test_a_wait_that_nothing_can_end_says_so_at_once(queue: TestQueue) -> None:
    @queue.task
    def nothing() -> None: ...

    done = nothing.submit()
    held = queue.get(done.id)
    queue.registry._tasks.pop("nothing")  # pyright: ignore[reportPrivateUsage] - as after a rename in a deploy
    with pytest.raises(WaitTimeout, match=rf"job {done.id} \(nothing\) is pending, and no live worker knows"):
        held.result()


def test_a_sleep_of_a_coroutine_takes_no_time_and_its_timeout_is_by_the_virtual_clock(queue: TestQueue) -> None:
    @queue.task(max_attempts=1, timeout_s=60)
    async def sleep(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "slept"

    began = time.monotonic()
    job, late = sleep.submit(59), sleep.submit(3_600)
    assert job.result() == "slept"
    assert job.record.attempts[0].run_s == 59
    with pytest.raises(JobFailed, match="TaskTimeout: ran longer than timeout_s=60"):
        late.result()
    assert (queue.now(), late.record.attempts[0].ending) == (MIDNIGHT + timedelta(minutes=1), "timeout")
    assert time.monotonic() - began < 20


def test_running_jobs_are_seen_as_they_run_and_can_be_cancelled(queue: TestQueue) -> None:
    seen: list[str] = []

    @queue.task(max_attempts=1)
    async def climb(ctx: Context) -> None:
        try:
            for step in range(10):
                ctx.progress(step / 10, f"step {step}")
                ctx.log(f"at {step}")
                await asyncio.sleep(10)
        finally:
            seen.append(str(ctx.cancelled))

    job = climb.submit()
    queue.advance(seconds=25)
    assert (job.status, job.record.progress, job.record.progress_message) == ("running", 0.2, "step 2")
    assert job.log() == ("at 0", "at 1", "at 2")
    assert (queue.depths().running, queue.workers()[0].load) == (1, 1)
    job.cancel()
    queue.run_until_idle()
    assert (job.status, seen) == ("cancelled", ["True"])
    with pytest.raises(JobCancelled):
        job.result()


def test_jobs_that_wait_for_each_other_run_side_by_side(queue: TestQueue) -> None:
    async def main() -> tuple[list[str], asyncio.Event]:
        return [], asyncio.Event()

    order, event = queue.run(main())

    @queue.task
    async def first() -> None:
        await event.wait()
        order.append("first")

    @queue.task
    async def second() -> None:
        order.append("second")
        event.set()

    first.submit()
    second.submit()
    queue.run_until_idle()
    assert (order, queue.now()) == (["second", "first"], MIDNIGHT)


# -- threads


def test_a_function_runs_in_the_thread_of_the_test_and_may_use_the_queue_as_any_code(queue: TestQueue) -> None:
    @queue.task
    def where(ctx: Context) -> str:
        return f"{threading.current_thread().name} {ctx.job_id}"

    @queue.task(timeout_s=86_400)
    def fan_out(n: int) -> list[str]:
        jobs = queue.submit_many([where.bind() for _ in range(n)])
        retried, _ = flaky(queue, 1)
        return [*jobs.results(), retried.submit().result()]

    *threads, last = fan_out.submit(3).result()
    assert {text.split()[0] for text in threads} == {threading.current_thread().name}
    assert last == "done"


def test_threads_that_a_task_starts_may_use_the_queue(queue: TestQueue) -> None:
    @queue.task
    def double(n: int) -> int:
        return 2 * n

    @queue.task
    def in_threads(n: int) -> int:
        with ThreadPoolExecutor(3) as pool:
            return sum(pool.map(lambda i: double.submit(i).result(), range(n)))

    @queue.task
    async def in_executor(n: int) -> int:
        jobs = await asyncio.to_thread(double.map, range(n))
        return sum(await asyncio.to_thread(jobs.results))

    assert in_threads.submit(6).result() == 30
    assert in_executor.submit(6).result() == 30
    assert queue.now() - MIDNIGHT < timedelta(seconds=60)  # time is real while a thread works


def test_a_task_whose_thread_takes_real_time_does_not_time_out_before_it(queue: TestQueue) -> None:
    @queue.task(max_attempts=1, timeout_s=30)
    async def work() -> str:
        async with asyncio.timeout(20):
            await asyncio.to_thread(time.sleep, 0.1)
        return "worked"

    assert work.submit().result() == "worked"
    assert timedelta(seconds=0.05) < queue.now() - MIDNIGHT < timedelta(seconds=20)


def test_a_process_that_a_task_waits_for_takes_real_time(queue: TestQueue) -> None:
    @queue.task(max_attempts=1, timeout_s=30)
    async def work() -> int | None:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(0.1)")
        return await process.wait()

    assert work.submit().result() == 0
    assert queue.now() - MIDNIGHT < timedelta(seconds=30)


def test_a_function_that_runs_past_its_timeout_has_timed_out(queue: TestQueue) -> None:
    @queue.task(max_attempts=1, timeout_s=0.05)
    def slow() -> str:
        time.sleep(0.1)
        return "slow"

    @queue.task(max_attempts=1, timeout_s=60)
    def slow_by_the_clock() -> str:
        queue.advance(seconds=61)
        return "slow"

    for task in (slow, slow_by_the_clock):
        with pytest.raises(JobFailed, match="TaskTimeout: ran longer than timeout_s="):
            task.submit().result()


def test_a_coroutine_that_would_block_the_queue_raises_as_in_a_worker(queue: TestQueue) -> None:
    @queue.task
    def nothing() -> None: ...

    @queue.task(max_attempts=1)
    async def blocks() -> None:
        nothing.submit()

    with pytest.raises(JobFailed, match="WrongLoop: a TestQueue would block"):
        blocks.submit().result()


def test_two_threads_wait_at_once(queue: TestQueue) -> None:
    @queue.task
    def double(n: int) -> int:
        time.sleep(0.01)
        return 2 * n

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda n: double.submit(n).result(timeout=60), range(40))) == [2 * n for n in range(40)]


def test_why_a_job_failed_is_in_the_log_of_its_test(queue: TestQueue, caplog: pytest.LogCaptureFixture) -> None:
    task, _ = flaky(queue, 1)
    job = task.submit()
    queue.run_until_idle()
    assert f"job {job.id} (flaky) failed: ConnectionError: away" in caplog.text
    assert 'raise ConnectionError("away")' in caplog.text


def test_a_failed_check_in_a_task_fails_the_test_and_not_the_job(queue: TestQueue) -> None:
    @queue.task
    def checks() -> None:
        pytest.fail("not so")

    job = checks.submit()
    with pytest.raises(pytest.fail.Exception, match="not so"):
        queue.run_until_idle()
    assert job.status in ("running", "scheduled")


def test_ctrl_c_in_a_task_ends_the_test(queue: TestQueue) -> None:
    @queue.task
    def interrupted() -> None:
        raise KeyboardInterrupt

    interrupted.submit()
    with pytest.raises(KeyboardInterrupt):
        queue.run_until_idle()


# -- await


def test_jobs_are_awaited_in_an_asynchronous_test(queue: TestQueue) -> None:
    task, _ = flaky(queue, 2)

    async def test() -> str:
        job = task.submit()
        queue.run_until_idle()
        assert job.status == "scheduled"
        return await job

    assert asyncio.run(test()) == "done"


def test_jobs_come_as_they_complete(queue: TestQueue) -> None:
    @queue.task
    def after(n: int) -> int:
        return n

    calls = [after.options(delay_s=delay).bind(delay) for delay in (30, 10, 20)]
    jobs = queue.submit_many(calls)
    assert [job.result() for job in jobs.as_completed()] == [10, 20, 30]
    assert len(jobs.wait().done) == 3


# -- what a test asks


def test_submitted_has_the_jobs_of_a_task_in_their_order(queue: TestQueue) -> None:
    @queue.task
    def welcome(name: str) -> str:
        return f"hello {name}"

    @queue.task
    def other() -> None: ...

    assert list(queue.submitted(welcome)) == []
    for name in ("ada", "grace"):
        welcome.options(tags=["mail"]).submit(name)
        other.submit()
    jobs = queue.submitted(welcome)
    assert [job.record.payload for job in jobs] == [{"name": "ada"}, {"name": "grace"}]
    assert {job.record.tags for job in jobs} == {("mail",)}
    assert jobs.results() == ["hello ada", "hello grace"]
    assert [job.id for job in queue.submitted("welcome")] == [job.id for job in jobs]
    assert [job.record.task for job in queue.submitted()] == ["welcome", "other"] * 2


def test_inline_runs_a_job_before_submit_returns(queue: TestQueue) -> None:
    task, times = flaky(queue, 1)
    queue.inline = True
    job = task.submit()
    assert (job.status, times) == ("scheduled", [MIDNIGHT])
    assert job.result() == "done"
    assert [one.status for one in queue.submit_many([task.bind(), task.bind()])] == ["completed"] * 2
    assert task.options(delay_s=5).submit().status == "scheduled"
    queue.inline = False
    assert task.submit().status == "pending"
    with TestQueue(inline=True) as other:
        assert other.task(name="x")(lambda: None).submit().status == "completed"


def test_a_job_whose_worker_is_lost_runs_again(queue: TestQueue) -> None:
    ran: list[int] = []

    @queue.task(max_losses=2)
    def charge(ctx: Context, cents: int) -> int:
        ran.append(ctx.attempt)
        return cents

    job = charge.submit(5)
    queue.lose_worker(job)
    assert (job.status, job.record.losses, ran) == ("scheduled", 1, [1])
    assert (job.result(), ran) == (5, [1, 2])
    twice = charge.submit(6)
    queue.lose_worker(twice)
    queue.lose_worker(twice)
    with pytest.raises(JobFailed, match="WorkerLost"):
        twice.result()
    with pytest.raises(JobConflict, match=r"is completed: only a job that is due"):
        queue.lose_worker(job)
    with pytest.raises(JobConflict, match=r"is scheduled: .*advance the clock first"):
        queue.lose_worker(charge.options(delay_s=5).submit(7))


def test_a_job_that_may_not_be_at_fault_is_requeued_automatically_as_in_production(queue: TestQueue) -> None:
    ran: list[datetime] = []

    @queue.task(max_attempts=1, timeout_s=10)
    async def hangs() -> str:
        ran.append(queue.now())
        await asyncio.sleep(0 if len(ran) > 1 else 60)
        return "done"

    job = hangs.submit()
    queue.run_until_idle()
    assert (job.status, [one.id for one in queue.dead_letters().items]) == ("failed", [job.id])
    queue.advance(hours=1)
    assert (job.status, job.record.recoveries) == ("completed", 1)
    assert ran[1] - ran[0] >= timedelta(seconds=queue.settings.dead_letter_cooldown_s)
    assert queue.dead_letters().items == ()


def test_a_worker_leaves_a_job_that_it_cannot_begin_for_a_while(queue: TestQueue) -> None:
    @queue.task
    def typed(n: int) -> int:
        return n

    job = typed.submit(1)
    queue.registry._tasks.pop("typed")  # pyright: ignore[reportPrivateUsage] - a deploy changes the signature

    @queue.task(name="typed")
    def other(text: str) -> str:
        return text

    queue.run_until_idle()
    assert (job.status, job.record.declined) == ("pending", 1)
    queue.advance(hours=1)
    assert job.status == "failed"
    assert job.record.error is not None
    assert job.record.error.kind == "invalid_payload"


def test_what_follows_on_the_end_of_a_job_is_submitted_with_the_options_of_its_task(queue: TestQueue) -> None:
    seen: list[tuple[str, str]] = []

    @queue.task(max_attempts=7)
    def note(end: JobEnd) -> None:
        seen.append((end.status, end.task))

    @queue.task(max_attempts=2, backoff_s=60, on_failure=note, on_success=note)
    def divide(by: int) -> float:
        return 1 / by

    divide.map([1, 0])
    queue.run_until_idle()
    assert seen == [("completed", "divide")]
    queue.advance(minutes=1)
    assert seen == [("completed", "divide"), ("failed", "divide")]
    assert [job.record.max_attempts for job in queue.submitted(note)] == [7, 7]


def test_unique_and_debounced_jobs_are_those_of_production(queue: TestQueue) -> None:
    indexed: list[tuple[int, float]] = []

    @queue.task
    def index(doc: str, version: int = 0) -> None:
        indexed.append((version, (queue.now() - MIDNIGHT).total_seconds()))

    debounced = index.options(debounce_s=5, unique_key="doc-7")
    for version in range(3):
        debounced.submit("doc-7", version)
        queue.advance(seconds=2)
    queue.advance(minutes=1)
    assert indexed == [(2, 9)]
    hourly = index.options(unique="window", unique_for_s=3_600, unique_key="doc-8")
    first = hourly.submit("doc-8")
    assert first.result() is None
    again = hourly.submit("doc-8")
    assert (again.id, again.was_duplicate) == (first.id, True)
    queue.advance(hours=1)
    assert hourly.submit("doc-8").id != first.id


def test_retry_rules_are_those_of_production(queue: TestQueue) -> None:
    times: list[float] = []

    @queue.task(max_attempts=4, retry_on=(ConnectionError,), backoff=(1, 5, 60))
    def sync(ctx: Context) -> str:
        times.append((queue.now() - MIDNIGHT).total_seconds())
        match ctx.attempt:
            case 1:
                raise RetryAfter(30)
            case 2:
                raise Snooze(3_600)
            case 3:
                raise ConnectionError("away")
            case _:
                raise GiveUp("no such customer")

    job = sync.submit()
    queue.advance(days=1)
    assert times == [0, 30, 3_630, 3_635]
    assert (job.status, job.record.failures) == ("failed", 3)
    later = sync.options(starts_at=MIDNIGHT + timedelta(days=30)).submit()
    queue.advance(days=28)
    assert later.status == "scheduled"
    queue.advance(days=2)
    assert later.status == "failed"


def test_schedules_run_as_time_passes_also_in_a_night_in_which_the_clocks_change(queue: TestQueue) -> None:
    ran: list[tuple[str, datetime]] = []

    @queue.task
    def note(name: str) -> None:
        ran.append((name, queue.now()))

    queue.advance(days=86)  # 28 March, when the next night has no half past two in Berlin
    begin = queue.now()
    nightly = queue.schedule("nightly", note.bind("nightly"), cron="30 2 * * *", tz="Europe/Berlin")
    pulse = queue.schedule("pulse", note.bind("pulse"), every_s=3_600)
    queue.advance(hours=1)
    assert ran == [("pulse", begin + timedelta(hours=1))]
    pulse.pause("too many")
    ran.clear()
    queue.advance(days=1, hours=12)
    assert [(name, when.day, when.hour, when.minute) for name, when in ran] == [
        ("nightly", 28, 1, 30),
        ("nightly", 29, 1, 0),
    ]
    assert [job.status for job in nightly.runs()] == ["completed"] * 2


def test_counts_and_health_are_those_of_the_record(queue: TestQueue) -> None:
    task, _ = flaky(queue, 0)
    task.submit()
    queue.advance(minutes=5)
    ask = queue.core.control.ask
    stats = queue.run(ask(STATS, StatsQuery(window_s=3_600)))
    assert (stats.submitted, stats.completed, [one.task for one in stats.tasks]) == (1, 1, ["flaky"])
    assert sum(minute.completed for minute in stats.minutes) == 1
    assert [(one.task, one.completed) for one in queue.run(ask(TOTALS)).totals] == [("flaky", 1)]
    assert queue.run(ask(HEALTH)).status == "ok"
    assert queue.run(ask(SNAPSHOT)).jobs[0].task == "flaky"


def test_a_record_is_a_copy_that_changes_nothing(queue: TestQueue) -> None:
    @queue.task
    def take(items: list[int]) -> list[int]:
        items.append(4)
        return items

    given = [1]
    job = take.submit(given)
    given.append(2)
    job.record.payload["items"].append(3)
    queue.submitted(take)[0].record.payload["items"].append(3)
    assert job.result() == [1, 4]
    assert queue.get(job.id).record.payload == {"items": [1]}


# -- the end


def test_a_queue_that_is_closed_takes_nothing_and_leaves_its_running_jobs(queue: TestQueue) -> None:
    ended: list[str] = []

    @queue.task
    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("ended")

    job = forever.options(timeout_s=86_400).submit()
    queue.advance(seconds=1)
    assert job.status == "running"
    queue.close()
    assert ended == ["ended"]
    queue.close()
    with pytest.raises(QueueClosed):
        forever.submit()
    assert repr(queue) == "<TestQueue, closed>"
    assert (job.status, queue.submitted(forever).statuses) == ("pending", ["pending"])  # it was given back


def test_many_jobs_take_little_time_each(queue: TestQueue) -> None:
    @queue.task
    async def add(a: int, b: int = 1) -> int:
        return a + b

    began = time.monotonic()
    assert sum(add.map(range(3_000)).results()) == sum(range(1, 3_001))
    assert time.monotonic() - began < 60


def test_time_is_exact_over_years(queue: TestQueue) -> None:
    """Sums of floats are not: a job that is due at a millisecond must not be missed by a part of it."""
    rng = random.Random(3)

    @queue.task
    def note() -> None: ...

    for _ in range(300):
        delay = round(rng.random() * 40 * 86_400, 3)
        job = note.options(delay_s=delay).submit()
        due = job.record.due_at
        assert job.result(timeout=delay + 1) is None
        started = job.record.started_at
        assert started is not None
        assert due is not None
        assert started == due


def test_the_broker_in_memory_has_what_queues_and_transitions_call() -> None:
    """A method that it lacks would look for a Redis."""
    package = Path(dtqkit.__file__).parent
    texts = [path.read_text() for folder in ("direct", "transitions") for path in (package / folder).glob("*.py")]
    called = {name for text in texts for name in re.findall(r"\bbroker\.(\w+)", text)}
    modules = {path.stem for path in (package / "broker").glob("*.py")}
    assert called - modules - set(vars(MemoryBroker)) == set()


def test_a_bulk_leaves_unique_jobs_whose_key_another_job_has() -> None:
    with TestQueue() as queue:

        @queue.task(unique="active", max_attempts=1)
        def once() -> None:
            raise ValueError

        dead = once.submit()
        queue.run_until_idle()
        once.submit()
        done = queue.requeue_many(task="once")
        assert (done.matched, done.changed, dead.refresh().status) == (1, 0, "failed")
