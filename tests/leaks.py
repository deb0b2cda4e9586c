"""What a test must not leave behind."""

from collections.abc import Iterator
from typing import Final, cast

from redis import Redis

#: What belongs to the namespace itself: it stays when its last job is over.
KEPT: Final = frozenset(
    {
        "epoch",
        "workers",
        "queue:record",
        "queue:high",
        "queue:medium",
        "queue:low",
        "queue:scheduled",
        "queue:inflight",
        "queue:parked",
    }
)


def check_no_key_leaked(redis_url: str, namespace: str) -> None:
    """That no key of a single job or worker is left in Redis without an expiry."""
    with Redis.from_url(redis_url, decode_responses=True) as redis:
        keys = cast("Iterator[str]", redis.scan_iter(match=f"{namespace}:*", count=1000))
        assert sorted(key for key in keys if redis.ttl(key) == -1 and key.partition(":")[2] not in KEPT) == []
