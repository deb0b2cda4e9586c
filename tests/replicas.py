"""A replica set of mongods that a test may step down, kill, pause and let lag. Elections take a second or two."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pymongo import MongoClient
from pymongo.errors import AutoReconnect, PyMongoError

from dtqkit.local.programs import MONGOD, find_server
from dtqkit.local.servers import HOST
from dtqkit.local.stores import _free_port as free_port  # pyright: ignore[reportPrivateUsage]
from dtqkit.local.watcher import Watcher
from tests import in_memory
from tests.wait import wait_until

Mongo = MongoClient[dict[str, Any]]

NAME = "rs"
#: A member that does not hear the primary for so long calls an election, in ms. The default is 10,000.
ELECTION_MS = 1_000
START_S = 60.0


class Member:
    def __init__(self, name: str, port: int, argv: list[str]) -> None:
        self.name = name
        self.port = port
        self.argv = argv

    def client(self) -> Mongo:
        return Mongo(HOST, self.port, directConnection=True, timeoutMS=3_000)

    def hello(self) -> dict[str, Any]:
        """Empty when it does not answer."""
        try:
            with self.client() as client:
                return client.admin.command("hello")
        except PyMongoError:
            return {}


class ReplicaSet:
    """`size` mongods from `with` to its end; they end with this process, however it ends.

    Not `replicated`, they are standalone servers; not `initiated`, they wait for it.
    """

    def __init__(self, size: int = 3, *, replicated: bool = True, initiated: bool = True) -> None:
        self._replicated = replicated
        self._initiated = initiated and replicated
        self._stack = contextlib.ExitStack()
        self._program = str(find_server(MONGOD))
        self._size = size
        self.members: list[Member] = []

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="dtqkit-replicas-", dir=in_memory.directory()))
        lock_fd = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        self._watcher = Watcher(self._directory, lock_fd, temporary=True)
        os.close(lock_fd)
        self._stack.callback(self._watcher.stop)
        for number in range(self._size):
            name, port = f"m{number}", free_port()
            (self._directory / name).mkdir()
            self.members.append(Member(name, port, self._command(name, port)))
        for member in self.members:
            self.start(member)
        for member in self.members:
            wait_until(lambda member=member: member.hello(), START_S)
        if self._initiated:
            self._initiate()
        return self

    def _initiate(self) -> None:
        config = {
            "_id": NAME,
            "members": [{"_id": i, "host": f"{HOST}:{m.port}"} for i, m in enumerate(self.members)],
            "settings": {"electionTimeoutMillis": ELECTION_MS, "heartbeatIntervalMillis": 200},
        }
        with self.members[0].client() as client:
            client.admin.command("replSetInitiate", config)
        self.wait_whole()

    def _command(self, name: str, port: int) -> list[str]:
        options = {
            "--dbpath": str(self._directory / name),
            "--bind_ip": HOST,
            "--port": str(port),
            **({"--replSet": NAME, "--oplogSize": "64"} if self._replicated else {}),
            "--wiredTigerCacheSizeGB": "0.25",
            "--wiredTigerEngineConfigString": "log=(prealloc=false,file_max=16MB)",
        }
        parameters = ("enableTestCommands=1", "diagnosticDataCollectionEnabled=false")
        return [
            self._program,
            *[text for option in options.items() for text in option],
            *[text for parameter in parameters for text in ("--setParameter", parameter)],
            "--nounixsocket",
            "--quiet",
        ]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def uri(self) -> str:
        return f"mongodb://{','.join(f'{HOST}:{member.port}' for member in self.members)}/?replicaSet={NAME}"

    # -- what there is

    def primary(self) -> Member | None:
        """The member that takes writes; None while there is none."""
        return next((m for m in self.members if m.hello().get("isWritablePrimary")), None)

    def wait_primary(self) -> Member:
        wait_until(lambda: self.primary() is not None, START_S, 0.1)
        return self.primary() or self.wait_primary()

    def secondaries(self) -> list[Member]:
        return [member for member in self.members if member.hello().get("secondary")]

    def wait_whole(self) -> None:
        """A primary, and every other member a secondary."""
        wait_until(lambda: self.primary() and len(self.secondaries()) == self._size - 1, START_S, 0.1)

    # -- what is done to it

    def start(self, member: Member) -> None:
        self._watcher.start(member.name, member.argv, "", self._directory / f"{member.name}.log")

    def kill(self, member: Member) -> None:
        """SIGKILL; returns when it is gone."""
        self._watcher.kill(member.name)

    def step_down(self, seconds: int, *, force: bool = True) -> Member:
        """The primary steps down, and may not be elected again for so long; unless forced, it hands over."""
        member = self.wait_primary()
        command = {"replSetStepDown": seconds, "secondaryCatchUpPeriodSecs": 1, "force": force}
        with member.client() as client, contextlib.suppress(AutoReconnect):
            client.admin.command(command)
        return member

    def fail(self, member: Member, point: str, mode: str = "alwaysOn", **data: Any) -> None:
        """Set a failpoint of mongod, or with mode `off` take it back."""
        with member.client() as client:
            client.admin.command({"configureFailPoint": point, "mode": mode, **({"data": data} if data else {})})

    def refuse(self, commands: list[str], code: int) -> None:
        """The primary answers these commands of dtqkit with an error, until `accept`."""
        self.fail(self.wait_primary(), "failCommand", failCommands=commands, errorCode=code, appName="dtqkit")

    def accept(self) -> None:
        self.fail(self.wait_primary(), "failCommand", "off")
