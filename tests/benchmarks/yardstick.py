"""The yardstick: a bare LPUSH and BRPOP loop in redis-py, one job a round trip, no record, no task."""

from __future__ import annotations

import time
from typing import Any, cast

import msgspec
from redis import Redis


class Bare(msgspec.Struct, frozen=True):
    """Rates a second, and CPU of the popping process in µs a job."""

    push_rate: float
    pop_rate: float
    pop_us: float


def bare_loop(redis_url: str, jobs: int) -> Bare:
    """Push `jobs` ids one by one, then pop them one by one."""
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
