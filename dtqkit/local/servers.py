"""redis-server and mongod: how each is run, and when it is ready."""

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
#: The user that a member of a replica set has at the others; its password is their common key.
_MEMBER = "__system"
#: How often it is asked whether it is primary by now, before it is looked at as a whole again.
_LOOKS, _LOOK_S = 100, 0.01


@dataclass
class Server(ABC):
    """How one server is run."""

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
        """The arguments, and what is written to its standard input."""

    @abstractmethod
    def ready(self, pid: int) -> bool:
        """Whether this server, and not another that took its port first, takes writes by now."""


@dataclass
class RedisServer(Server):
    """Loopback only, and with a password, which it reads from standard input and so never shows in `ps`.

    The append-only file, without fsync, lets its content outlive the process, not a power cut: the queue's
    safety never depends on what Redis holds.
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
    """Loopback only, and with a password: the key by which members of a replica set would know each other.

    Its owner is the only client, as the user that such a member has: no user must be made, and so none is kept.
    A replica set of one, because majority writes and retryable writes need a replica set.
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
            # Three journal files of 100 MB are made at the start otherwise, and read after a kill.
            "--wiredTigerEngineConfigString": "log=(prealloc=false,file_max=16MB)",
            "--setParameter": "diagnosticDataCollectionEnabled=false",
        }
        flags = [text for option in options.items() for text in option]
        # Whoever is on this machine may make the first user otherwise.
        flags += ["--setParameter", "enableLocalhostAuthBypass=false"]
        # The fewest rounds that there may be: they slow down who guesses passwords, and ours has 256 bits.
        flags += ["--setParameter", "scramSHA256IterationCount=5000"]
        return [str(self.program), *flags, "--nounixsocket", "--quiet"], ""

    def prepare(self) -> None:
        """A key of this run's own, which only its owner can read."""
        self.key_file.unlink(missing_ok=True)
        with os.fdopen(open_private(self.key_file, os.O_WRONLY | os.O_EXCL), "w") as file:
            file.write(self.key)

    def ready(self, pid: int) -> bool:
        """Whether it is primary; makes the replica set, or moves it to this port, when need be."""
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
                # On this connection: another one would have to prove the password again.
                for _ in range(_LOOKS):
                    if client.admin.command("hello")["isWritablePrimary"]:
                        return True
                    time.sleep(_LOOK_S)
                return False
        except (OSError, PyMongoError):
            return False  # not yet; when it never is, the error shows its log

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
    """The last lines from byte `start` on; of mongod's, which ends wordily, the errors if there are any."""
    try:
        with log.open("rb") as file:
            file.seek(max(start, log.stat().st_size - LOG_TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError as error:
        return f"({error})"
    entries = [_plain(line) for line in text.splitlines() if line.strip()]
    grave = [entry for is_grave, entry in entries if is_grave]
    return "\n".join(f"  {entry[:300]}" for entry in (grave or [entry for _, entry in entries])[-lines:])


def _plain(line: str) -> tuple[bool, str]:
    """Whether the line is an error of mongod's, and the line as a person reads it."""
    try:
        entry = json.loads(line)
        text = f"{entry['t']['$date']} {entry['s']} {entry['msg'].strip()} {json.dumps(entry.get('attr', {}))}"
        return entry["s"] in ("E", "F"), text
    except (ValueError, KeyError, TypeError):
        return False, line
