"""Stores as hosts have them: a replica set of three, and a Redis pair behind one address, where we are a user with few
rights. Elections, failovers and changed rights are faults like the others.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, cast

from redis.exceptions import RedisError

from dtqkit import Settings
from tests.faults.chaos import Chaos
from tests.faults.proxy import HOST, Proxy
from tests.faults.work import Nursery
from tests.faults.world import World
from tests.redis_servers import RedisProcess, follow, redis_server
from tests.replicas import ReplicaSet

USER: Final = "queue"
PASSWORD: Final = "canary"
#: What the user may do; and what is taken from it at random.
RIGHTS: Final = ("~*", "&*", "+@all", "-@dangerous", "+info")
LOST: Final = ("-@write", "-zadd", "-@scripting", "-publish", "-@pubsub", "-hset -expire", "resetkeys", "resetchannels")


class HostedStores:
    """From `with` to its end. Administrative commands of Redis go to the present primary."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._directory.mkdir(exist_ok=True)
        with contextlib.ExitStack() as stack:
            self.mongo = stack.enter_context(ReplicaSet())
            options = ("--repl-diskless-sync-delay", "0")
            self.primary, self.replica = (
                stack.enter_context(redis_server(self._directory, *options)) for _ in range(2)
            )
            follow(self.replica, self.primary)
            self._address = stack.enter_context(Proxy(self.primary.port))
            self._stack = stack.pop_all()
        self.user("on", f">{PASSWORD}", *RIGHTS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def redis_url(self) -> str:
        return f"redis://{HOST}:{self._address.port}/0"

    @property
    def atlas_uri(self) -> str:
        # Until a member that was killed is back, a client may still try it.
        return f"{self.mongo.uri}&serverSelectionTimeoutMS=20000"

    def user(self, *rules: str) -> None:
        """Change the user that workers and clients are; replicas do not follow that."""
        for server in (self.primary, self.replica):
            server.redis.execute_command("ACL", "SETUSER", USER, *rules)

    def fail_over(self, address: Proxy) -> str:
        """The replica becomes the primary, and the old primary its replica; who is connected to that one stays so."""
        old, new = self.primary, self.replica
        new.redis.replicaof("NO", "ONE")
        for proxy in (address, self._address):
            proxy.to(new.port)
        self.primary, self.replica = new, old
        follow(old, new)
        # The administrator's connections do not stay.
        self._address.set("cut")
        self._address.set("pass")
        return f"{new.port} after {old.port}"


class HostedWorld(World):
    """Workers reach Redis through `redis_proxy`, and MongoDB as its driver finds it."""

    stores: Any

    def __init__(self, stores: HostedStores, nursery: Nursery, directory: Path, **settings: Any) -> None:
        super().__init__(cast(Any, stores), nursery, directory, **settings)

    def _connect(self) -> Settings:
        hosted: HostedStores = self.stores
        self.redis_proxy = self._stack.enter_context(Proxy(hosted.primary.port))
        self.mongo_proxy = self._stack.enter_context(Proxy(hosted.mongo.members[0].port))
        return Settings(
            redis_url=f"redis://{USER}:{PASSWORD}@{HOST}:{self.redis_proxy.port}/0",
            atlas_uri=hosted.atlas_uri,
            namespace=self.namespace,
            **self._settings,
        )


class HostedChaos(Chaos):
    """What hosts do besides: elections, failovers, other rights."""

    @property
    def _stores(self) -> HostedStores:
        return cast(HostedStores, cast(Any, self._world).stores)

    def _menu(self) -> dict[str, Callable[[], str]]:
        ours = super()._menu()
        keep = {
            "kill -9 of a worker",
            "kill -9 of the leader",
            "SIGTERM of a worker",
            "a long pause",
            "FLUSHALL",
            "Redis cut off",
            "Redis stalls",
            "Redis's replies swallowed",
            "rubbish in Redis",
            "ids gone from Redis",
        }
        return {
            "the primary hands over": lambda: self._step_down(force=False),
            "the primary steps down": lambda: self._step_down(force=True),
            "kill -9 of the primary": self._kill_primary,
            "a member is killed in an election": self._kill_in_election,
            "a failover of Redis": self._fail_over,
            "a failover of Redis, and kill -9 of a worker": lambda: self._fail_over() and self._kill(leader=False),
            "an election and a failover": lambda: self._step_down(force=True) and self._fail_over(),
            "a right is lost": self._lose_right,
            "another password": self._other_password,
            "the user is off": self._user_off,
            **{name: ours[name] for name in ours if name in keep},
        }

    def _flush(self) -> str:
        return self._patiently(super()._flush)

    def _patiently(self, ask: Callable[[], str]) -> str:
        """The first try may meet a connection from before a failover; the next one has a new one."""
        try:
            return ask()
        except RedisError:
            return ask()

    def _step_down(self, *, force: bool) -> str:
        mongo = self._stores.mongo
        mongo.wait_whole()
        old = mongo.step_down(2, force=force)
        self._submit(5)
        new = mongo.wait_primary()
        return f"{old.name} stepped down, {new.name} leads" if new is not old else f"{old.name} leads again"

    def _kill_primary(self) -> str:
        mongo = self._stores.mongo
        mongo.wait_whole()
        old = mongo.wait_primary()
        mongo.kill(old)
        self._submit(5)
        time.sleep(self._rng.uniform(0, 10) * self._beat_s)  # how long it is away
        new = mongo.wait_primary()
        mongo.start(old)
        return f"{old.name} is gone, {new.name} leads"

    def _kill_in_election(self) -> str:
        """Without a majority for a while."""
        mongo = self._stores.mongo
        mongo.wait_whole()
        old = mongo.step_down(2)
        other = next(member for member in mongo.members if member is not old)
        mongo.kill(other)
        self._submit(5)
        time.sleep(self._rng.uniform(0, 10) * self._beat_s)  # how long there is no majority
        mongo.start(other)
        return f"{old.name} stepped down, {other.name} was killed, {mongo.wait_primary().name} leads"

    def _fail_over(self) -> str:
        return self._stores.fail_over(self._world.redis_proxy)

    def _during(self, change: tuple[str, ...], back: tuple[str, ...], *, disconnect: bool) -> str:
        stores = self._stores
        stores.user(*change)
        if disconnect:  # else they stay authenticated
            for server in (stores.primary, stores.replica):
                server.redis.execute_command("CLIENT", "KILL", "USER", USER)
        try:
            self._submit(2)
            time.sleep(self._rng.uniform(2, 12) * self._beat_s)  # how long the right is missing
            return self._denials(stores.primary)
        finally:
            stores.user(*back)

    def _denials(self, server: RedisProcess) -> str:
        denied = sum(int(entry["count"]) for entry in server.redis.acl_log() if entry["username"] in (USER, "default"))
        server.redis.acl_log_reset()
        return f"{denied} times" if denied else ""

    def _lose_right(self) -> str:
        lost = self._rng.choice(LOST)
        hit = self._during(tuple(lost.split()), RIGHTS, disconnect=False)
        return hit and f"{lost}: {hit}"

    def _other_password(self) -> str:
        return self._during(("resetpass", ">other"), ("resetpass", f">{PASSWORD}"), disconnect=True)

    def _user_off(self) -> str:
        return self._during(("off",), ("on",), disconnect=True)
