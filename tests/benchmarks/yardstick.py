"""The yardsticks: what the drivers alone take, in the same run on the same servers."""

from __future__ import annotations

import time
from typing import Any, cast

import msgspec
from bson import ObjectId
from pymongo import MongoClient, WriteConcern
from redis import Redis


class Bare(msgspec.Struct, frozen=True):
    """Rates a second, and CPU of the popping process in µs a job."""

    push_rate: float
    pop_rate: float
    pop_us: float


def bare_loop(redis_url: str, jobs: int) -> Bare:
    """Push `jobs` ids one by one, then pop them one by one: no record, no task."""
    with Redis.from_url(redis_url, decode_responses=True) as client:
        redis = cast("Any", client)
        key = "yardstick"
        started = time.perf_counter()
        for n in range(jobs):
            redis.lpush(key, f"{n:024x}")
        pushed = time.perf_counter()
        cpu = time.process_time()
        for _ in range(jobs):
            redis.brpop([key], timeout=5)
        popped = time.perf_counter()
        return Bare(
            push_rate=jobs / (pushed - started),
            pop_rate=jobs / (popped - pushed),
            pop_us=(time.process_time() - cpu) / jobs * 1e6,
        )


def two_writes(mongo: MongoClient[dict[str, Any]], count: int) -> list[float]:
    """ms that a bare driver takes for what a pick-up cannot do without: an insert and a claim, both journaled."""
    writes = mongo.get_database("yardstick", write_concern=WriteConcern("majority", j=True))["jobs"]
    samples: list[float] = []
    for _ in range(count):
        job = ObjectId()
        started = time.perf_counter()
        writes.insert_one({"_id": job, "status": "pending"})
        writes.find_one_and_update({"_id": job, "status": "pending"}, {"$set": {"status": "running"}})
        samples.append((time.perf_counter() - started) * 1000)
        time.sleep(0.02)  # as idle as between two pick-ups
    mongo.drop_database("yardstick")
    return samples
