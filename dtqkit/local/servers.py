"""redis-server and mongod: how to run each, and when it is ready."""

import json
import os
import secrets
import socket
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from dtqkit.local.private import open_private

HOST = "127.0.0.1"
REPLICA_SET = "dtqkit"
LOG_TAIL_BYTES = 65_536
#: The user as which members of a replica set connect to each other; its password is their common key.
_MEMBER = "__system"
#: How often, and how many seconds apart, mongod is asked whether it is primary before all checks are repeated.
_LOOKS, _LOOK_S = 100, 0.01


@dataclass
class Server(ABC):
    """How to run one server."""

    program: Path
    home: Path  #: of both servers' data and logs
    port: int

    name: ClassVar[str]

    @property
    def directory(self) -> Path:
        return self.home / self.name

    @property
    def log(self) -> Path:
        return self.home / f"{self.name}.log"

    @property
    @abstractmethod
    def url(self) -> str: ...

    def prepare(self) -> None:  # noqa: B027 - most need nothing
        """Called before each start."""

    @abstractmethod
    def command(self) -> tuple[list[str], str]:
        """The arguments, and the text for its standard input."""

    @abstractmethod
    def ready(self, pid: int) -> bool:
        """Whether this server takes writes, and not another one that took its port first."""


@dataclass
class RedisServer(Server):
    """On loopback only, and with a password, which it reads from standard input, so that `ps` does not show it.

    With an append-only file without fsync, its data survives the end of the process, but not a power failure: the
    safety of the queue does not depend on the data in Redis.
    """

    password: str = field(repr=False)

    name = "redis"

    @property
    def url(self) -> str:
        return f"redis://default:{self.password}@{HOST}:{self.port}/0"

    def command(self) -> tuple[list[str], str]:
        config = f"""
            bind {HOST}
            port {self.port}
            requirepass {self.password}
            dir {json.dumps(str(self.directory), ensure_ascii=False)}
            appendonly yes
            appendfsync no
            save ""
            daemonize no
            logfile ""
        """
        return [str(self.program), "-"], config

    def ready(self, pid: int) -> bool:  # noqa: ARG002 - its password identifies it
        try:
            with (
                socket.create_connection((HOST, self.port), 1) as connection,
                connection.makefile("rb") as answers,
            ):
                connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                return answers.readline() == b"+OK\r\n" and answers.readline() == b"+PONG\r\n"
        except OSError:
            return False


@dataclass
class MongoServer(Server):
    """On loopback only, and with a password: the key file by which members of a replica set authenticate.

    The owner connects as the internal user of such members, so that no user must be created. It is a replica set of
    one member, because majority writes and retryable writes need a replica set.
    """

    key: str = field(repr=False, default_factory=lambda: secrets.token_hex(32))

    name = "mongod"

    @property
    def key_file(self) -> Path:
        return self.home / "mongod.key"

    @property
    def url(self) -> str:
        user = f"{_MEMBER}:{self.key}@{HOST}:{self.port}"
        return f"mongodb://{user}/?authSource=local&replicaSet={REPLICA_SET}&directConnection=true"

    def command(self) -> tuple[list[str], str]:
        options = {
            "--dbpath": str(self.directory),
            "--bind_ip": HOST,
            "--port": str(self.port),
            "--replSet": REPLICA_SET,
            "--keyFile": str(self.key_file),
            "--oplogSize": "256",  # MB; the default is 5 % of the free disk
            "--wiredTigerCacheSizeGB": "0.25",
            # Otherwise three journal files of 100 MB are created at the start, and read after a kill.
            "--wiredTigerEngineConfigString": "log=(prealloc=false,file_max=16MB)",
            "--setParameter": "diagnosticDataCollectionEnabled=false",
        }
        flags = [text for option in options.items() for text in option]
        # Otherwise any user of this machine could create the first user.
        flags += ["--setParameter", "enableLocalhostAuthBypass=false"]
        # The minimum: iterations protect weak passwords, and this one has 256 bits.
        flags += ["--setParameter", "scramSHA256IterationCount=5000"]
        return [str(self.program), *flags, "--nounixsocket", "--quiet"], ""

    def prepare(self) -> None:
        """Write a new key for this run, readable by its owner only."""
        self.key_file.unlink(missing_ok=True)
        with os.fdopen(open_private(self.key_file, os.O_WRONLY | os.O_EXCL), "w") as file:
            file.write(self.key)

    def ready(self, pid: int) -> bool:
        """Whether it is primary. Initiates the replica set, or changes its port, if necessary."""
        try:
            socket.create_connection((HOST, self.port), 1).close()
            with MongoClient[dict[str, Any]](
                HOST,
                self.port,
                username=_MEMBER,
                password=self.key,
                authSource="local",
                directConnection=True,
                timeoutMS=2000,
            ) as client:
                if client.admin.command("serverStatus", metrics=0)["pid"] != pid:
                    return False
                self._configure(client)
                # On this connection: another one would have to authenticate again.
                for _ in range(_LOOKS):
                    if client.admin.command("hello")["isWritablePrimary"]:
                        return True
                    time.sleep(_LOOK_S)
                return False
        except (OSError, PyMongoError):
            return False  # not yet; if it never is, the error of the start shows its log

    def _configure(self, client: MongoClient[dict[str, Any]]) -> None:
        address = f"{HOST}:{self.port}"
        config = client["local"]["system.replset"].find_one()
        if config is None:
            member = {"_id": 0, "host": address}
            client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": [member]})
        elif config["members"][0]["host"] != address:
            config["members"][0]["host"] = address
            config["version"] += 1
            client.admin.command({"replSetReconfig": config, "force": True})


def log_tail(log: Path, start: int, lines: int = 12) -> str:
    """The last lines from byte `start` on; of mongod's verbose log, only the errors if there are any."""
    try:
        with log.open("rb") as file:
            file.seek(max(start, log.stat().st_size - LOG_TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError as error:
        return f"({error})"
    entries = [_plain(line) for line in text.splitlines() if line.strip()]
    severe = [entry for is_severe, entry in entries if is_severe]
    return "\n".join(f"  {entry[:300]}" for entry in (severe or [entry for _, entry in entries])[-lines:])


def _plain(line: str) -> tuple[bool, str]:
    """Whether the line is an error of mongod, and the line in readable form."""
    try:
        entry = json.loads(line)
        text = f"{entry['t']['$date']} {entry['s']} {entry['msg'].strip()} {json.dumps(entry.get('attr', {}))}"
        return entry["s"] in ("E", "F"), text
    except (ValueError, KeyError, TypeError):
        return False, line
