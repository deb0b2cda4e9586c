"""What a test must not leave behind."""

from collections.abc import Iterator
from typing import cast

from redis import Redis


def leaked_keys(redis_url: str, namespace: str) -> list[str]:
    """The namespace's keys in Redis that never expire."""
    with Redis.from_url(redis_url, decode_responses=True) as redis:
        keys = cast("Iterator[str]", redis.scan_iter(match=f"{namespace}:*", count=1000))
        return sorted(key for key in keys if redis.ttl(key) == -1)
