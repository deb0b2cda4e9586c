"""The Redis commands that dtqkit needs, and whether the user may run them."""

from __future__ import annotations

from typing import Any, Final

import redis.asyncio
from redis.exceptions import NoPermissionError

from dtqkit.broker.keys import Keys
from dtqkit.broker.refusals import UnusableServer
from dtqkit.model.events import encode_batch

#: All commands that this package and its scripts use, each with arguments for a key that holds a string.
#: `subscribe`, `unsubscribe` and `blpop` are not tried: they would block.
COMMANDS: Final[dict[str, tuple[Any, ...]]] = {
    "ping": (),
    "time": (),
    "eval": ("return 1", 0),
    "evalsha": ("0" * 40, 0),
    "get": ("KEY",),
    "mget": ("KEY",),
    "set": ("KEY", "1", "PX", 60_000),
    "type": ("KEY",),
    "pttl": ("KEY",),
    "pexpire": ("KEY", 60_000),
    "rpush": ("KEY", "1"),
    "lpush": ("KEY", "1"),
    "lpop": ("KEY",),
    "lrem": ("KEY", 1, "1"),
    "llen": ("KEY",),
    "lrange": ("KEY", 0, 0),
    "lset": ("KEY", 0, "1"),
    "zadd": ("KEY", 1, "1"),
    "zrem": ("KEY", "1"),
    "zcard": ("KEY",),
    "zscore": ("KEY", "1"),
    "zrange": ("KEY", 0, 0),
    "zrangebyscore": ("KEY", 0, 0),
    "zremrangebyscore": ("KEY", 0, 0),
    "hset": ("KEY", "1", "1"),
    "hmget": ("KEY", "1"),
    "publish": ("CHANNEL", "MESSAGE"),
    "del": ("KEY",),
}
UNTRIED: Final = ("blpop", "subscribe", "unsubscribe")
_ORDER: Final = ("set", *(name for name in COMMANDS if name not in ("set", "del")), "del")


async def check_rights(client: redis.asyncio.Redis, keys: Keys) -> None:
    """Try all commands on `keys.probe`, in one round trip. Raises UnusableServer, which names the missing rights."""
    values = {"KEY": keys.probe, "CHANNEL": keys.events, "MESSAGE": encode_batch()}
    pipe: Any = client.pipeline(transaction=False)
    for name in _ORDER:
        pipe.execute_command(name.upper(), *(values.get(arg, arg) for arg in COMMANDS[name]))
    used = used_keys(keys)
    for key in used:
        pipe.type(key)
    answers: list[Any] = await pipe.execute(raise_on_error=False)
    denied = [isinstance(answer, NoPermissionError) for answer in answers]
    commands = [name for name, no in zip(_ORDER, denied, strict=False) if no]
    # Without the right to TYPE itself, nothing is known about single keys.
    patterns = [key for key, no in zip(used, denied[len(_ORDER) :], strict=True) if no and "type" not in commands]
    if commands or patterns:
        missing = [f"the commands {' '.join(f'+{name}' for name in commands)}"] if commands else []
        missing += [f"the keys {' '.join(f'~{key}' for key in patterns)}"] if patterns else []
        raise UnusableServer(
            "denied", f"the user of REDIS_URL lacks rights that dtqkit needs: {', and '.join(missing)}"
        )


def used_keys(keys: Keys) -> list[str]:
    """One of each kind of key."""
    return [
        *(keys.lanes()),
        keys.inflight,
        keys.scheduled,
        keys.record,
        keys.workers,
        keys.worker("x"),
        keys.wake("x"),
        keys.leader,
        keys.epoch,
        keys.epoch_building,
        keys.rounds,
        keys.schedules,
        keys.live("x"),
        keys.cancels,
        keys.parked,
        keys.pauses,
    ]
