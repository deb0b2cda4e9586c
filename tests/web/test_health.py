"""Health is accurate: 503 when submits would be refused, degraded with reasons when jobs could not run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pymongo import MongoClient
from redis import Redis

from dtqkit import TaskQueue
from dtqkit.local import LocalStores, start_local_stores
from dtqkit.model.settings import Settings
from tests.serving import Server, publish, settings_for
from tests.wait import wait_until
from tests.web.tasks import ALL
from tests.workers import Workers


@pytest.fixture(scope="module")
def own_stores() -> Iterator[LocalStores]:
    """Stores that the tests of this module may make refuse."""
    with start_local_stores() as stores:
        yield stores


@pytest.fixture(scope="module")
def own(own_stores: LocalStores) -> Settings:
    with MongoClient[dict[str, Any]](own_stores.atlas_uri) as mongo:  # whose own user no block stops
        mongo.admin.command("createUser", "app", pwd="app", roles=["readWriteAnyDatabase"])
    place = own_stores.atlas_uri.rpartition("@")[2].replace("authSource=local", "authSource=admin")
    settings = settings_for(own_stores, "health", heartbeat_s=0.2, atlas_uri=f"mongodb://app:app@{place}")
    publish(settings, [task.info for task in ALL])
    return settings


@pytest.fixture(scope="module")
def server(own: Settings) -> Iterator[Server]:
    with Server(own) as server:
        yield server


@pytest.fixture(scope="module")
def queue(own: Settings) -> Iterator[TaskQueue]:
    with TaskQueue(own) as queue:
        for task in ALL:
            queue.add(task)
        yield queue


@pytest.fixture
def redis(own_stores: LocalStores) -> Iterator[Any]:
    with Redis.from_url(own_stores.redis_url, decode_responses=True) as redis:
        yield redis


def health(server: Server) -> dict[str, Any]:
    answer = server.get("/health", token=None)
    assert (answer.status == 503) is (answer.json["status"] == "down")
    return answer.json


def becomes(server: Server, status: str, *reasons: str) -> dict[str, Any]:
    """Health, once it is so."""
    seen: list[Any] = []

    def so() -> bool:
        seen[:] = [health(server)]
        return seen[0]["status"] == status and all(any(r in said for said in seen[0]["reasons"]) for r in reasons)

    try:
        wait_until(so, timeout_s=20)
    except AssertionError:
        raise AssertionError(str(seen)) from None
    return seen[0]


def parts(server: Server) -> dict[str, float]:
    text = server.get("/metrics").body.decode()
    samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
    return {one.labels["part"]: one.value for one in samples if one.name == "dtqkit_health"}


def test_with_workers_a_leader_and_both_stores_it_is_ok(server: Server, queue: TaskQueue) -> None:
    becomes(server, "degraded", "no worker is alive")
    with Workers(queue):
        found = becomes(server, "ok")
        assert (found["workers"], found["leader"], found["unserved"], found["reasons"]) == (1, True, [], [])
        assert found["beat_s"] < 10
        assert max(found["mongodb_wrote_s"], found["redis_wrote_s"]) < 20
        assert parts(server) == dict.fromkeys(("mongodb", "redis", "workers", "leader", "lanes"), 1.0)
    found = becomes(server, "degraded", "no worker is alive")
    assert found["workers"] == 0
    assert parts(server)["workers"] == 0


def test_a_waiting_lane_that_no_live_worker_serves(server: Server, queue: TaskQueue) -> None:
    with Workers(queue, lanes=("high",)):
        becomes(server, "ok")
        job = server.post("/jobs", {"task": "add", "payload": {"a": 1}, "priority": "low"}).json["id"]
        assert becomes(server, "degraded", "serves the lane low, where 1 jobs wait")["unserved"] == ["low"]
        assert parts(server)["lanes"] == 0
        server.post(f"/jobs/{job}/cancel")


def test_a_redis_that_takes_no_writes_is_not_ok(server: Server, queue: TaskQueue, redis: Any) -> None:
    with Workers(queue):
        becomes(server, "ok")
        redis.config_set("maxmemory", "1")
        try:
            found = becomes(server, "degraded", "Redis is full (OOM)")
            assert (found["redis"], found["mongodb"], found["workers"]) == ("down", "up", None)
            assert parts(server)["redis"] == 0
            assert server.post("/jobs", {"task": "add", "payload": {"a": 1}}).status == 201
        finally:
            redis.config_set("maxmemory", "0")
        becomes(server, "ok")
        redis.replicaof("127.0.0.1", 1)
        try:
            becomes(server, "degraded", "READONLY")
        finally:
            redis.replicaof("no", "one")
        becomes(server, "ok")


def test_a_missing_leader_is_reported(server: Server, redis: Any) -> None:
    """As of a worker that beats and never leads, for lack of rights, for example."""
    beat = {"id": "w", "name": "w", "host": "h", "pid": 1, "lanes": ["high", "medium", "low"], "concurrency": 1}
    beat |= {"load": 0, "started_at": "2026-01-01T00:00:00Z", "version": "1"}

    def beats() -> bool:
        seconds, micros = redis.time()
        redis.hset("health:worker:w", mapping={"beat": json.dumps(beat)})
        redis.zadd("health:workers", {"w": seconds * 1000 + micros // 1000})
        return any("no worker leads" in said for said in health(server)["reasons"])

    wait_until(lambda: not redis.exists("health:leader"))
    wait_until(beats, timeout_s=20, interval_s=0.1)
    assert parts(server)["leader"] == 0
    redis.delete("health:workers", "health:worker:w")


def test_a_mongodb_that_refuses_writes_is_503(server: Server, own_stores: LocalStores) -> None:
    assert health(server)["mongodb"] == "up"
    with MongoClient[dict[str, Any]](own_stores.atlas_uri) as mongo:
        mongo.admin.command({"setUserWriteBlockMode": 1, "global": True})
        try:
            found = becomes(server, "down", "MongoDB")
            assert (found["mongodb"], found["redis"]) == ("down", "up")
            assert server.get("/health/live", token=None).status == 200
            assert parts(server)["mongodb"] == 0
        finally:
            mongo.admin.command({"setUserWriteBlockMode": 1, "global": False})
    becomes(server, "degraded", "no worker is alive")
