"""Jobs that are changed in bulk by the values of their payloads, and what a `where` may ask for."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Callable
from typing import Any

import pytest

from dtqkit import Bulk, InvalidPause, InvalidQuery, MatchesEverything, Settings, TaskQueue
from dtqkit.direct import listing, many
from tests import sample
from tests.command import answer, dtqkit
from tests.conftest import Mongo
from tests.serving import publish
from tests.wait import wait_until
from tests.workers import Workers


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "PIECE", 7)


def payloads(queue: TaskQueue, task: str) -> Callable[..., Any]:
    """A task with parameters of many kinds."""

    @queue.task(name=task)
    async def made(
        customer: int = 1,
        name: str = "ada",
        paid: bool = False,
        price: float = 0.5,
        day: dt.date | None = None,
        more: dict[str, int] | None = None,
    ) -> int:
        return customer

    return made.submit


def test_a_value_of_the_payload_is_a_filter_of_every_bulk(queue: TaskQueue) -> None:
    jobs = [sample.add.submit(n % 3) for n in range(20)]
    sevens = [job for job in jobs if job.record.payload == {"a": 1}]
    others = [job for job in jobs if job not in sevens]
    assert queue.cancel_many(task="add", where={"a": 1}, dry_run=True) == Bulk(matched=7)
    assert queue.update_many({"tags": ["one"]}, task="add", where={"a": 1}) == Bulk(matched=7, changed=7)
    assert len(queue.jobs(q="one").items) == 7
    assert queue.cancel_many(where={"a": 1}) == Bulk(matched=7, changed=7)
    assert {job.refresh().status for job in sevens} == {"cancelled"}
    assert {job.refresh().status for job in others} == {"pending"}
    assert queue.delete_many(where={"a": 1}, status="cancelled") == Bulk(matched=7, changed=7)
    assert queue.requeue_many(where={"a": 1}) == Bulk()


def test_failed_jobs_are_requeued_by_the_values_of_their_payloads(queue: TaskQueue) -> None:
    with Workers(queue):
        jobs = [sample.fail.submit(text) for text in ("x", "y", "x")]
        wait_until(lambda: {job.refresh().status for job in jobs} == {"failed"})
    assert queue.requeue_many(where={"message": "x"}) == Bulk(matched=2, changed=2)
    assert [job.refresh().status for job in jobs] == ["pending", "failed", "pending"]


@pytest.mark.parametrize("task", [None, "kinds"])
def test_values_are_compared_as_those_of_a_pause(queue: TaskQueue, task: str | None) -> None:
    """Those that MongoDB cannot look into, too: they have a key with a dot."""
    submit = payloads(queue, "kinds")
    for odd in ({}, {"more": {"a.b": 1}}, {"more": {"$c": 2}}):
        for given in ({}, {"customer": 7}, {"customer": 1, "name": "7"}, {"paid": True}, {"price": 1}, {"day": None}):
            submit(**given, **odd)
    submit(day=dt.date(2026, 1, 31))

    class Size(enum.IntEnum):
        BIG = 7

    for where, matched in (
        ({"customer": 7}, 3),
        ({"customer": 7.0}, 3),
        ({"customer": Size.BIG}, 3),
        ({"customer": 1}, 16),  # also where it is left out: its default
        ({"name": "7"}, 3),
        ({"paid": True}, 3),
        ({"price": 1.0}, 3),
        ({"price": 1}, 3),
        ({"day": None}, 18),
        ({"day": dt.date(2026, 1, 31)}, 1),
        ({"customer": 1, "paid": True}, 3),
        ({"customer": 8}, 0),
    ):
        given: dict[str, Any] = {"where": where} if task is None else {"where": where, "task": task}
        assert queue.cancel_many(dry_run=True, **given).matched == matched, where
        assert queue.update_many({"tags": ["x"]}, **given) == Bulk(matched=matched, changed=matched), where


def test_of_each_task_its_own_default_counts(queue: TaskQueue) -> None:
    @queue.task
    async def one(customer: int = 1) -> None: ...

    @queue.task
    async def two(customer: int = 2) -> None: ...

    @queue.task
    async def three(customer: int) -> None: ...

    one.submit()
    two.submit()
    three.submit(2)
    assert queue.cancel_many(where={"customer": 2}, dry_run=True).matched == 2
    assert queue.cancel_many(where={"customer": 1}).changed == 1
    assert queue.cancel_many(where={"customer": 2}).changed == 2


def test_a_bulk_by_payload_goes_on_from_its_cursor(queue: TaskQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "WORK_S", 0.0)
    submit = payloads(queue, "odd")
    for n in range(20):
        submit(customer=n % 2, more={"a.b": n})
    seen: list[Bulk] = []

    def stop(done: Bulk) -> None:
        seen.append(done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        queue.cancel_many(where={"customer": 0}, progress=stop)
    assert 0 < seen[0].changed < 7
    rest = queue.cancel_many(where={"customer": 0}, cursor=seen[0].cursor)
    assert seen[0].changed + rest.changed == 10
    assert queue.cancel_many(where={"customer": 0}) == Bulk()


def test_a_look_into_large_payloads_that_takes_long_is_cut_into_smaller_pieces(
    queue: TaskQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [sample.add.submit(n) for n in range(5)]
    core: Any = queue.core.control
    looks: list[dict[str, Any]] = []
    page = core._parts.store.jobs.page

    async def slow(query: dict[str, Any], limit: int, max_ms: int, **more: Any) -> Any:
        looks.append(query)
        return None if len(looks) < 4 else await page(query, limit, max_ms, **more)

    queue.depths()
    monkeypatch.setattr(core._parts.store.jobs, "page", slow)
    monkeypatch.setattr(listing, "_SCAN_S", 0.0)
    assert queue.cancel_many(where={"a": 3}) == Bulk(matched=1, changed=1)
    assert jobs[3].refresh().status == "cancelled"


def test_an_empty_where_is_no_filter(queue: TaskQueue) -> None:
    sample.add.submit(1)
    for empty in ({}, None):
        with pytest.raises(MatchesEverything, match="where, or all=True"):
            queue.cancel_many(where=empty)


def test_what_no_payload_can_have_is_refused_and_the_cure_named(queue: TaskQueue) -> None:
    payloads(queue, "kinds")
    for where, message in (
        (
            {"customer": "3"},
            r"has \"3\" for 'customer', which no job of task 'kinds' can have: expected `int`, got `str`; write 3",
        ),
        ({"name": 3}, r"has 3 for 'name'.* write \"3\" \(on the command line: 'name=\"3\"'\)"),
        ({"customer": True}, "has true for 'customer'.*give a value of that type"),
        ({"customer": 1.5}, "has 1.5 for 'customer'"),
        ({"paid": 1}, "has 1 for 'paid'"),
        ({"paid": "true"}, ".*write true"),
        ({"price": "0.5"}, ".*write 0.5"),
        ({"more": 3}, "has 3 for 'more'"),
        ({"day": "31.1.2026"}, "has \"31.1.2026\" for 'day'"),
        ({"customer": None}, "has null for 'customer'"),
        ({"custmer": 3}, "names 'custmer', which task 'kinds' does not have; it has customer, name"),
    ):
        with pytest.raises(InvalidQuery, match=f"where {message}"):
            queue.cancel_many(task="kinds", where=where)
        with pytest.raises(InvalidPause, match=f"where {message}") as refused:
            queue.pause(task="kinds", where=where)
        assert refused.value.field == "where"
        with pytest.raises(InvalidQuery, match="where "):
            queue.cancel_many(where=where)
    assert queue.cancel_many(task="gone", where={"customer": "3"}) == Bulk(), "a task that is not known is not checked"
    assert queue.pause(task="kinds", where={"customer": "3"}, allow_unknown=True).where == {"customer": "3"}
    queue.resume(task="kinds", where={"customer": "3"})


def test_what_is_not_compared_is_refused(queue: TaskQueue) -> None:
    wrong: list[tuple[Any, str]] = [
        ("a=1", "where is 'a=1'; it is a dict"),
        ({7: 1}, "where names 7; the name of a parameter is a text"),
        ({"a": [1]}, "compared with a text, a number"),
        ({"a": float("nan")}, "equal to no number"),
        ({"a": 2**63}, "64 bits"),
        ({"a": "x" * 501}, "501 characters"),
        ({"a.b": 1}, "'a.b', which cannot be a parameter"),
        ({f"n{i}": i for i in range(11)}, "at most 10"),
    ]
    for where, message in wrong:
        with pytest.raises(InvalidQuery, match=message):
            queue.cancel_many(where=where)


def test_a_job_whose_payload_is_stored_as_text_is_not_held_by_the_default_of_another_value(
    queue: TaskQueue, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "dtqkit.worker")

    @queue.task
    async def keyed(more: dict[str, int], customer: int = 7) -> int:
        return customer

    queue.pause(task="keyed", where={"customer": 7})
    with Workers(queue):
        wait_until(lambda: any("is paused since" in record.getMessage() for record in caplog.records))
        free, held = keyed.submit({"a.b": 1}, customer=8), keyed.submit({"a.b": 1})
        assert free.result(timeout=10) == 8
        wait_until(lambda: held.refresh().status == "scheduled")
    assert held.record.attempt == 0
    queue.resume(task="keyed", where={"customer": 7})


def test_the_command_line_takes_values_of_payloads(queue: TaskQueue, settings: Settings) -> None:
    publish(settings, [task.info for task in queue.registry])
    for n in (1, 1, 2):
        sample.add.submit(n)
    where = ("--where", "a=1")
    assert dtqkit("cancel", *where, "--dry-run", settings=settings).stdout == "2 jobs match\n"
    assert answer("update", *where, "--to-priority", "low", settings=settings)["changed"] == 2
    assert dtqkit("cancel", *where, "--priority", "low", settings=settings).stdout == "2 of 2 jobs cancelled\n"
    assert dtqkit("delete", *where, settings=settings).stdout == "2 of 2 jobs deleted\n"
    assert answer("requeue", "--dead", *where, settings=settings) == {"matched": 0, "requeued": 0}
    wrong = dtqkit("cancel", "--where", 'a="1"', settings=settings)
    assert (wrong.returncode, "write 1 (on the command line: 'a=1')" in wrong.stderr) == (2, True)
    assert dtqkit("cancel", "--where", "a", settings=settings).returncode == 2


# -- deletion


def test_the_dead_letters_of_deleted_jobs_go_and_those_of_kept_ones_stay(
    queue: TaskQueue, settings: Settings, mongo: Mongo
) -> None:
    database = mongo[settings.database_name]
    kept = sample.fail.options(unique="window", unique_for_s=3600, max_attempts=1, idempotency_key="kept")
    with Workers(queue):
        jobs = [kept.submit("a"), sample.fail.options(max_attempts=1, idempotency_key="gone").submit("b")]
        wait_until(lambda: {job.refresh().status for job in jobs} == {"failed"})
        wait_until(lambda: database["deadletter"].count_documents({}) == 2)
    assert queue.delete_many(task="fail") == Bulk(matched=2, changed=1)
    assert [str(doc["_id"]) for doc in database["deadletter"].find()] == [jobs[0].id]
    assert [job.id for job in queue.dead_letters().items] == [jobs[0].id]
    again = sample.fail.options(idempotency_key="gone", delay_s=60).submit("b")
    assert again.id != jobs[1].id, "its idempotency key is free again"
    assert kept.submit("a").id == jobs[0].id, "and that of the one that stays is not"
    slots = database["jobs"].find({"unique_slot": {"$exists": True}}, {"_id": 1})
    assert [str(doc["_id"]) for doc in slots] == [jobs[0].id]
