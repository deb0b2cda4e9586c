"""One client of Redis, for one event loop: its pool, its keys, and why Redis last refused."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import redis.asyncio

from dtqkit.broker.address import parse
from dtqkit.broker.client import ANSWER_S, Script, connect, redis_errors, unavailable
from dtqkit.broker.keys import Keys
from dtqkit.broker.refusals import Kind, RedisRefusal, UnusableServer
from dtqkit.broker.route import Route
from dtqkit.model.errors import StoreUnavailable


@cache
def script(name: str) -> str:
    """The text of one of our Lua scripts. Its keys and arguments begin with those of `record.lua`."""
    folder = Path(__file__).parent / "lua"
    return f"{(folder / 'record.lua').read_text()}{(folder / f'{name}.lua').read_text()}"


class Condition(msgspec.Struct):
    """The latest answers of Redis to this process: whether jobs can be listed."""

    #: When a write was last done, and when one was last refused, by `time.monotonic()`; None: never.
    written_at: float | None = None
    refused_at: float | None = None
    #: The last refusal: a sentence that includes the server's message, and its kind.
    refusal: str = ""
    kind: Kind | None = None

    @property
    def takes_writes(self) -> bool | None:
        """Whether the last write was done; None before the first."""
        if self.refused_at is None:
            return None if self.written_at is None else True
        return self.written_at is not None and self.written_at > self.refused_at


class RedisLink:
    """Connects when needed, and reconnects when the server turns out to be the wrong one."""

    def __init__(self, url: str, namespace: str) -> None:
        self.url: Final = url
        self._plain = Keys.of(namespace)
        self._tagged = Keys.in_cluster(namespace)
        self._route = Route(parse(url), self._tagged.leader)
        self.redis = connect(self._route)
        self.condition = Condition()
        #: Which record's jobs are listed here; empty: not known yet.
        self.record = ""
        #: Whether Redis, by its last answer, lists our record's jobs; and its refusal if they are another record's.
        self.owned = False
        self.taken: RedisRefusal | None = None
        self._others: set[redis.asyncio.Redis] = set()
        self._scripts: dict[str, Script] = {}
        self._wrong = False
        self._nonce = secrets.token_hex(4)

    @property
    def keys(self) -> Keys:
        """The key names on this server: in a cluster, all keys of a namespace are on one node."""
        return self._tagged if self._route.cluster else self._plain

    @property
    def moves(self) -> bool:
        """Whether the primary can change from one connection to the next."""
        return self._route.moves

    @property
    def connection_id(self) -> str:
        """A value that changes with each new connection: used if Redis does not report its run_id."""
        return f"{self._nonce}-{self._route.made}"

    def another(self, *, answer_s: float = ANSWER_S) -> redis.asyncio.Redis:
        """A client with its own connection, for calls that would block one of the pool; pass it to `close`."""
        client = connect(self._route, answer_s=answer_s, size=1)
        self._others.add(client)
        return client

    @property
    def raw(self) -> Any:
        """The pool's client, untyped: its annotations are not what its methods return."""
        return self.redis

    def pipeline(self) -> Any:
        """A pipeline: several commands in one round trip."""
        return self.raw.pipeline(transaction=False)

    async def close(self, client: redis.asyncio.Redis | None = None) -> None:
        """Close a client of `another`, or everything."""
        for one in [client] if client is not None else [self.redis, *self._others]:
            self._others.discard(one)
            await one.aclose()

    async def run(self, name: str, keys: list[str], args: list[Any]) -> Any:
        """Run a script of the folder `lua`."""
        if name not in self._scripts:
            self._scripts[name] = Script(self.redis, script(name))
        answer = await self._scripts[name]([self.keys.record, *keys], [self.record, *args])
        if self.record:
            self.owned, self.taken = True, None
        return answer

    @asynccontextmanager
    async def asking(self, point: str | None = None, *, writes: bool = False) -> AsyncGenerator[Keys]:
        """Raises errors of Redis as StoreUnavailable. `point` names the failpoint."""
        try:
            with redis_errors(self.url, point, self._note_refusal):
                if not self._route.made:
                    await self._greet()
                yield self.keys
        except StoreUnavailable:
            if self._wrong:
                await self._drop()
            raise
        if writes:
            self.condition.written_at = time.monotonic()

    async def _greet(self) -> None:
        """Connect for the first time: whether it is a cluster decides the names of the keys."""
        was = self._route.cluster
        try:
            await self.raw.ping()
        except UnusableServer:
            if self._route.cluster is was:
                raise
            await self.raw.ping()

    def _note_refusal(self, refusal: RedisRefusal) -> None:
        self._wrong = self._wrong or refusal.drops
        self.condition.refused_at = time.monotonic()
        self.condition.refusal = str(unavailable(self.url, refusal))
        self.condition.kind = refusal.kind
        if refusal.kind == "taken":
            self.owned, self.taken = False, refusal

    async def _drop(self) -> None:
        """Close all connections, so that the next ones are made to the present primary."""
        self._wrong = False
        pools = [cast(Any, one).connection_pool for one in (self.redis, *self._others)]
        await asyncio.gather(*(pool.disconnect() for pool in pools), return_exceptions=True)
