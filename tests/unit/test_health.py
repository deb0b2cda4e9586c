"""What follows for jobs from what was seen of the stores and the workers: each situation, in plain words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from dtqkit.direct.health import Seen, judge, trouble_of
from dtqkit.errors import NamespaceTaken, StoreUnavailable
from dtqkit.events import Heartbeat
from dtqkit.jobs import PRIORITIES

BEAT_S = 2.0


def worker(**fields: Any) -> Heartbeat:
    known: dict[str, Any] = {
        "id": "w", "name": "w", "host": "h", "pid": 1, "lanes": PRIORITIES, "concurrency": 1, "load": 0,
        "started_at": datetime.now(UTC), "version": "1",
    }  # fmt: skip
    return Heartbeat(**{**known, **fields})


NO_WORKER = "no worker is alive: jobs wait until one starts"
NO_LEADER = "no worker leads recovery: delayed jobs, and jobs of workers that died, wait"


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
        ("READONLY You can't write against a read only replica.", "is a replica that takes no writes (READONLY)"),
        ("it is full: raise maxmemory or free memory (OOM command not allowed)", "is full (OOM)"),
        ("MISCONF Redis is configured to save", "refuses writes because it cannot save them (MISCONF)"),
        ("max number of clients reached", "has no connection left for us (maxclients)"),
        ("Error 111 connecting to secret-host:6379. Connection refused.", "does not answer"),
    ],
)
def test_what_redis_says_is_given_in_plain_words_and_without_its_address(said: str, means: str) -> None:
    assert trouble_of(StoreUnavailable("Redis", "redis://secret-host", said)) == means


def test_other_troubles_have_plain_words_too() -> None:
    assert trouble_of(TimeoutError()) == "does not answer"
    assert trouble_of(StoreUnavailable("MongoDB", "m", "OOM", reason="electing")) == "is electing a primary"
    assert trouble_of(StoreUnavailable("MongoDB", "m", "x", reason="refused")) == "refuses writes"
    assert trouble_of(ValueError("secret")) == "refuses what is needed"


def test_a_redis_of_another_environment_means_that_submits_are_refused() -> None:
    health = judge(Seen(redis=trouble_of(NamespaceTaken("Redis", "r", "taken"))), BEAT_S)
    assert (health.status, health.redis, health.mongodb) == ("down", "down", "up")
    assert "DTQ_NAMESPACE: submits are refused" in health.reasons[0]
