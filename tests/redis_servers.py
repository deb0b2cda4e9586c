"""Servers of Redis that a test may demote, fill, stop and kill."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from tests.programs import pairs
from tests.wait import wait_until

HOST = "127.0.0.1"


def programs() -> list[Path]:
    """The redis-servers of this machine, each once."""
    return list(dict.fromkeys(pair.redis for pair in pairs()))


def version(program: Path) -> str:
    """For a test's name."""
    printed = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    return f"{program.name}-{printed.partition('v=')[2].partition(' ')[0]}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


class RedisProcess:
    """One redis-server; `redis` is a connection of an administrator."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], password: str | None) -> None:
        self.port = port
        self.url = f"redis://{HOST}:{port}/0"
        self.redis: Any = Redis(port=port, password=password, decode_responses=True)
        self._process = process

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        self.redis.close()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()

    def answers(self) -> bool:
        try:
            return bool(self.redis.ping())
        except RedisError:
            return False


@contextmanager
def redis_server(
    directory: Path,
    *options: object,
    program: Path | None = None,
    password: str | None = None,
    port: int | None = None,
) -> Iterator[RedisProcess]:
    port = port or free_port()
    home = directory / f"redis-{port}"
    home.mkdir()
    own = ["--requirepass", password] if password else []
    command = [program or programs()[0], "--port", port, "--dir", home, "--save", "", *own, *options]
    with (home / "log").open("wb") as log:
        server = RedisProcess(port, subprocess.Popen([str(part) for part in command], stdout=log, stderr=log), password)
    try:
        wait_until(server.answers, timeout_s=20)
        yield server
    finally:
        server.end()


@contextmanager
def primary_and_replica(directory: Path) -> Iterator[tuple[RedisProcess, RedisProcess]]:
    with redis_server(directory) as first, redis_server(directory) as second:
        follow(second, first)
        yield first, second


def follow(replica: RedisProcess, primary: RedisProcess) -> None:
    replica.redis.replicaof(HOST, primary.port)
    wait_until(lambda: replica.redis.info("replication").get("master_link_status") == "up", timeout_s=20)


@contextmanager
def sentinels(directory: Path, primary: RedisProcess, name: str, *, password: str = "") -> Iterator[list[RedisProcess]]:
    """Three that watch `primary` under `name`, and have found each other and a replica."""
    with ExitStack() as stack:
        found: list[RedisProcess] = []
        for number in range(3):
            port = free_port()
            config = directory / f"sentinel-{number}.conf"
            lines = [
                f"port {port}",
                f"dir {directory}",
                f"sentinel monitor {name} {HOST} {primary.port} 2",
                f"sentinel down-after-milliseconds {name} 1000",
                f"sentinel failover-timeout {name} 5000",
                *([f"requirepass {password}", f"sentinel sentinel-pass {password}"] if password else []),
            ]
            config.write_text("\n".join(lines) + "\n")
            with (directory / f"sentinel-{number}.log").open("wb") as log:
                process = subprocess.Popen([str(programs()[0]), config, "--sentinel"], stdout=log, stderr=log)
            server = RedisProcess(port, process, password or None)
            stack.callback(server.end)
            wait_until(server.answers, timeout_s=20)
            found.append(server)

        def settled(one: RedisProcess) -> bool:
            state = one.redis.sentinel_master(name)
            return bool(state["num-slaves"] == 1 and state["num-other-sentinels"] == 2)

        for one in found:
            wait_until(lambda one=one: settled(one), timeout_s=30, interval_s=0.1)
        yield found
