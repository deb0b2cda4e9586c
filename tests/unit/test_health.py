"""What follows for jobs from what was seen of the stores and the workers: each situation, in plain words."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from pymongo.errors import DuplicateKeyError, OperationFailure
from redis._parsers.base import BaseParser

from dtqkit.broker.client import unavailable
from dtqkit.broker.found import Look
from dtqkit.broker.refusals import WORDS, refusal_of
from dtqkit.direct import health
from dtqkit.direct.health import Asked, HealthMonitor, Seen, judge, trouble_of
from dtqkit.model.errors import NamespaceTaken, StoreUnavailable
from dtqkit.model.events import Heartbeat
from dtqkit.model.jobs import PRIORITIES
from dtqkit.model.settings import Settings
from dtqkit.store import Store

BEAT_S = 2.0


def worker(**fields: Any) -> Heartbeat:
    known: dict[str, Any] = {
        "id": "w", "name": "w", "host": "h", "pid": 1, "lanes": PRIORITIES, "concurrency": 1, "load": 0,
        "started_at": datetime.now(UTC), "version": "1",
    }  # fmt: skip
    return Heartbeat(**{**known, **fields})


NO_WORKER = "no worker is alive: jobs wait until one starts"
NO_LEADER = "no worker leads recovery: delayed jobs, and jobs of lost workers, wait"


@pytest.mark.parametrize(
    ("seen", "status", "reasons"),
    [
        ({}, "ok", []),
        ({"waiting": {"high": 5, "medium": 1}}, "ok", []),
        ({"vacant_s": 3.9 * BEAT_S}, "ok", []),
        ({"vacant_s": 4.1 * BEAT_S}, "degraded", [NO_LEADER]),
        ({"workers": ()}, "degraded", [NO_WORKER]),
        ({"workers": (), "waiting": {"low": 1}, "vacant_s": 60.0}, "degraded", [NO_WORKER]),
        ({"workers": (worker(lanes=("high",)),), "waiting": {"high": 5}}, "ok", []),
        (
            {"workers": (worker(lanes=("high",)),), "waiting": {"high": 1, "low": 1200}},
            "degraded",
            ["no live worker serves the lane low, where 1,200 jobs wait"],
        ),
        (
            {"workers": (worker(status="stopping"),), "waiting": {"low": 1}},
            "degraded",
            ["no live worker serves the lane low, where 1 jobs wait"],
        ),
        (
            {"redis": "is full (OOM)"},
            "degraded",
            ["Redis is full (OOM): jobs are accepted, and wait until it takes writes"],
        ),
        ({"mongodb": "is electing a primary"}, "down", ["MongoDB is electing a primary: submits are refused"]),
        (
            {"mongodb": "does not answer", "redis": "does not answer"},
            "down",
            [
                "MongoDB does not answer: submits are refused",
                "Redis does not answer: jobs wait until it takes writes",
            ],
        ),
    ],
)
def test_each_situation_has_its_status_and_its_reasons(seen: dict[str, Any], status: str, reasons: list[str]) -> None:
    health = judge(Seen(**{"workers": (worker(),), **seen}), BEAT_S)
    assert (health.status, list(health.reasons)) == (status, reasons)
    assert (health.redis, health.mongodb) == (
        "down" if "redis" in seen else "up",
        "down" if "mongodb" in seen else "up",
    )
    assert (health.workers is None) is ("redis" in seen)


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("READONLY You can't write", "is a read-only replica now, and another server is the primary (READONLY)"),
        ("OOM command not allowed when used memory > 'maxmemory'.", "is full (OOM)"),
        ("MISCONF Redis is configured to save", "cannot save to disk and takes no writes (MISCONF)"),
        ("NOPERM User app has no permissions", "says that the user of REDIS_URL lacks a right (NOPERM)"),
        ("CLUSTERDOWN The cluster is down", "says that the cluster is down (CLUSTERDOWN)"),
        ("ERR max number of clients reached", "has no connection left"),
        ("MOVED 3999 10.0.0.7:6381", "says that another node of the cluster has these keys (MOVED)"),
    ],
)
def test_what_redis_refuses_is_given_in_plain_words_and_without_an_address(said: str, means: str) -> None:
    error = unavailable("redis://secret-host", refusal_of(BaseParser.parse_error(said)))
    assert trouble_of(error) == means


def test_each_word_of_a_refusal_ends_a_sentence() -> None:
    for word in set(WORDS) - {"FOREIGN"}:
        brief = refusal_of(BaseParser.parse_error(f"{word} 1 secret:1")).brief
        assert brief.endswith(f" ({word})")
        assert "secret" not in brief
        assert brief.split(" ", 1)[0] in {"is", "became", "cannot", "says", "asks", "refuses", "aborted", "does"}


def test_other_troubles_have_plain_words_too() -> None:
    gone = unavailable("redis://secret-host", refusal_of(ConnectionRefusedError("secret-host:6379")))
    assert trouble_of(gone) == "does not answer"
    assert trouble_of(StoreUnavailable("MongoDB", "m", "OOM", reason="electing")) == "is electing a primary"
    assert trouble_of(StoreUnavailable("MongoDB", "m", "x", reason="refused")) == "refuses writes"
    assert trouble_of(ValueError("secret")) == "refuses what is needed"


def test_a_redis_of_another_environment_means_that_submits_are_refused() -> None:
    health = judge(Seen(redis=trouble_of(NamespaceTaken("Redis", "r", "taken"))), BEAT_S)
    assert (health.status, health.redis, health.mongodb) == ("down", "down", "up")
    assert "DTQ_NAMESPACE: submits are refused" in health.reasons[0]


# -- looks that take long


def test_a_slow_health_check_is_not_cancelled_and_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_ANSWER_S", 0.02)

    async def scenario() -> None:
        may, begun = asyncio.Event(), []

        async def ask() -> str:
            begun.append(1)
            await may.wait()
            return "found"

        asked = Asked(ask)
        assert [await asked.answer(), await asked.answer()] == ["does not answer"] * 2
        may.set()
        assert await asked.answer() == "found"
        assert begun == [1]
        await asked.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(("late_s", "then"), [(60.0, "1"), (-1.0, "does not answer")])
def test_an_answer_that_came_late_counts_for_a_while(monkeypatch: pytest.MonkeyPatch, late_s: float, then: str) -> None:
    """Of a store so far away that each look takes longer than a caller waits."""
    monkeypatch.setattr(health, "_ANSWER_S", 0.02)
    monkeypatch.setattr(health, "_LATE_S", late_s)

    async def scenario() -> None:
        mays: list[asyncio.Event] = []
        done = asyncio.Event()

        async def ask() -> str:
            mays.append(asyncio.Event())
            number = len(mays)
            await mays[-1].wait()
            asyncio.get_running_loop().call_soon(done.set)
            return str(number)

        asked = Asked(ask)
        assert await asked.answer() == "does not answer"
        mays[0].set()
        await done.wait()
        assert await asked.answer() == then  # the second is under way
        assert len(mays) == 2
        mays[1].set()
        assert await asked.answer() == "2"

    asyncio.run(scenario())


@pytest.mark.parametrize("hung", ["redis", "mongodb"])
def test_health_gives_up_no_look_at_a_store(monkeypatch: pytest.MonkeyPatch, hung: str) -> None:
    monkeypatch.setattr(health, "_ANSWER_S", 0.05)
    monkeypatch.setattr(health, "FRESH_S", -1.0)

    async def scenario() -> None:
        may, ends = asyncio.Event(), []

        async def answer(store: str) -> None:
            try:
                if store == hung:
                    await may.wait()
            except BaseException as error:
                ends.append(error)
                raise

        async def look(_: float) -> Look:
            await answer("redis")
            return Look(0, True, {}, {})

        async def probe() -> None:
            await answer("mongodb")

        monitor = monitor_of(look, probe)
        assert getattr(await monitor.health(), hung) == "down"
        may.set()
        assert getattr(await monitor.health(), hung) == "up"
        assert ends == []

    asyncio.run(scenario())


def monitor_of(look: Any, probe: Any) -> HealthMonitor:
    async def opened() -> None: ...

    async def workers() -> list[Heartbeat]:
        return [worker()]

    broker: Any = SimpleNamespace(look=look, workers=workers)
    store: Any = SimpleNamespace(probe=probe, ping=probe, inserted_at=float("-inf"))
    return HealthMonitor(Settings(heartbeat_s=0.2), broker, store, opened)


# -- who leads


def test_the_leader_is_unknown_until_one_was_seen_or_could_have_been(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "FRESH_S", -1.0)
    now = [1000.0]
    led: list[bool | None] = [False]

    async def look(_: float) -> Look:
        if led[0] is None:
            raise StoreUnavailable("Redis", "", "away")
        return Look(0, led[0], {}, {"w": 0})

    async def probe() -> None: ...

    async def scenario() -> list[bool | None]:
        monitor = monitor_of(look, probe)
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now[0])
        found: list[bool | None] = []
        # Beats later; a leader, None: Redis is away; the message.
        for beats, leads in [(0, False), (3, False), (2, False), (1, True), (60, False), (3, False), (2, False),
                             (1, None), (60, False), (3, False), (2, False), (1, True)]:  # fmt: skip
            now[0] += 0.2 * beats
            led[0] = leads
            found.append((await monitor.health()).leader)
        return found

    found = asyncio.run(scenario())
    assert found == [None, None, False, True, True, True, False, None, None, None, False, True]


# -- inserts that are refused while other writes are taken, as over a quota


def test_only_an_insert_ends_the_refusal_of_an_insert() -> None:
    refuses = [True]
    done: list[str] = []

    async def insert_one(_: Any) -> None:
        if refuses[0]:
            raise OperationFailure("over the quota", 8000)
        done.append("insert")
        raise DuplicateKeyError("another process has just done it", 11_000)

    async def delete_one(_: Any) -> None:
        done.append("delete")

    async def scenario() -> None:
        store = Store(Settings())
        store._database = {"configuration": SimpleNamespace(insert_one=insert_one, delete_one=delete_one)}  # type: ignore[assignment]
        for ask in (store.probe, store.ping, store.probe, store.ping):
            with pytest.raises(StoreUnavailable, match="over the quota"):
                await ask()
        store._where.note_write(True, None)  # an update of somebody
        with pytest.raises(StoreUnavailable, match="over the quota"):
            await store.ping()
        assert "insert" not in done
        refuses[0] = False
        done.clear()
        await store.ping()
        assert (done, store._where.refused) == (["delete", "insert"], None)
        await store.close()

    asyncio.run(scenario())
