"""The local stores really end with their owner, keep their data when asked, and say what is wrong.

On each redis-server and mongod that this machine has: those of the wheels, and those on PATH.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from pymongo import MongoClient
from redis import Redis

from dtqkit.local import LocalStores, servers, start_local_stores
from dtqkit.local import stores as stores_module
from dtqkit.model.starting import LocalStoreError
from tests.programs import Pair, pairs
from tests.wait import wait_until

ROOT = Path(__file__).parents[2]
ORPHAN_LIMIT_S = 10

PROLOGUE = """
import json, os, signal, subprocess, sys, threading
# Whatever started the tests may ignore these, as nohup does, and that is inherited.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
from dtqkit.local import start_local_stores

def answers(stores):
    from pymongo import MongoClient
    from redis import Redis
    with Redis.from_url(stores.redis_url) as redis, MongoClient(stores.atlas_uri, timeoutMS=5000) as mongo:
        return bool(redis.ping()) and mongo.admin.command("ping")["ok"] == 1

def report(**more):
    more |= {"pids": stores.pids, "watcher": os.getpgid(stores.pids["redis"])}
    print(json.dumps({"directory": str(stores.directory), **more}), flush=True)

stores = start_local_stores(*sys.argv[1:])
"""


@pytest.fixture(autouse=True, params=pairs(), ids=str)
def programs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """What is found first, here and in the processes that a test starts."""
    directory = tmp_path_factory.mktemp("programs") / "bin"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", request.param.first_on_path(directory))
        yield request.param


class Owner:
    """A process of its own that starts local stores and then runs `story`, which must `report()` once."""

    def __init__(self, story: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROLOGUE + story, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        self.report: dict[str, Any] = json.loads(line)
        self.directory = Path(self.report["directory"])
        self.pids: list[int] = list(self.report["pids"].values())
        self.watcher_pid: int = self.report["watcher"]

    def everything_is_gone(self) -> bool:
        return not any(is_alive(pid) for pid in [*self.pids, self.watcher_pid])


def is_alive(pid: int) -> bool:
    ps = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return ps.stdout.strip() != "" and not ps.stdout.startswith("Z")


@pytest.fixture
def owner() -> Iterator[Callable[..., Owner]]:
    """Starts owners; whatever a failed test leaves of them is killed."""
    owners: list[Owner] = []

    def start(story: str, *arguments: str) -> Owner:
        owners.append(Owner(story, *arguments))
        return owners[-1]

    yield start
    for owner in owners:
        if not owner.everything_is_gone():
            os.killpg(owner.watcher_pid, signal.SIGKILL)
        owner.process.kill()
        owner.process.communicate()


def redis_of(stores: LocalStores) -> Redis:
    return Redis.from_url(stores.redis_url, decode_responses=True)


def mongo_of(stores: LocalStores) -> MongoClient[dict[str, Any]]:
    return MongoClient(stores.atlas_uri, timeoutMS=10_000)


def write_something(stores: LocalStores) -> None:
    with redis_of(stores) as redis, mongo_of(stores) as mongo:
        redis.set("kept", "yes")
        mongo["shop"]["orders"].insert_one({"_id": 1})


def what_is_stored(stores: LocalStores) -> tuple[str | None, int]:
    with redis_of(stores) as redis, mongo_of(stores) as mongo:
        return cast("str | None", redis.get("kept")), mongo["shop"]["orders"].count_documents({})


# --- the end of the owner is the end of the servers


@pytest.mark.parametrize(
    ("ending", "exit_status"),
    [
        ("", 0),
        ("raise RuntimeError('planted')", 1),
        ("stores.close(); stores.close()", 0),
        ("os._exit(3)", 3),
    ],
    ids=["normal exit", "exception", "close, twice", "exit without clean-up"],
)
def test_when_the_owner_ends_by_itself_nothing_is_left(
    owner: Callable[..., Owner], ending: str, exit_status: int
) -> None:
    ended = owner(f"report()\n{ending}")

    assert ended.process.wait(ORPHAN_LIMIT_S) == exit_status
    wait_until(ended.everything_is_gone, ORPHAN_LIMIT_S)
    wait_until(lambda: not ended.directory.exists(), ORPHAN_LIMIT_S)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP], ids=lambda number: number.name)
def test_when_the_owner_is_killed_nothing_is_left(owner: Callable[..., Owner], number: signal.Signals) -> None:
    victim = owner("report()\nsignal.pause()")

    victim.process.send_signal(number)

    assert victim.process.wait(ORPHAN_LIMIT_S) == -number
    wait_until(victim.everything_is_gone, ORPHAN_LIMIT_S)
    wait_until(lambda: not victim.directory.exists(), ORPHAN_LIMIT_S)


def test_the_terminals_ctrl_c_reaches_the_owner_and_not_the_servers(owner: Callable[..., Owner]) -> None:
    interrupted = owner(
        "try:\n    report()\n    signal.pause()\n"
        "except KeyboardInterrupt:\n    print('servers answer' if answers(stores) else 'servers are gone')"
    )

    os.killpg(interrupted.process.pid, signal.SIGINT)  # as a terminal does it

    said, complaints = interrupted.process.communicate(timeout=ORPHAN_LIMIT_S)
    assert said.strip() == "servers answer", complaints
    assert interrupted.process.returncode == 0
    wait_until(interrupted.everything_is_gone, ORPHAN_LIMIT_S)


@pytest.mark.parametrize(
    "bear",
    [
        "child = os.fork()\nif child == 0:\n    signal.pause()",
        "child = subprocess.Popen(['sleep', '300'], close_fds=False, stdout=2).pid",
    ],
    ids=["forked", "executed"],
)
def test_a_child_that_outlives_a_killed_owner_does_not_keep_the_servers(owner: Callable[..., Owner], bear: str) -> None:
    victim = owner(f"{bear}\nreport(child=child)\nsignal.pause()")
    child = victim.report["child"]
    try:
        victim.process.kill()

        wait_until(victim.everything_is_gone, ORPHAN_LIMIT_S)
        assert is_alive(child)
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize(
    "bear_and_wait",
    [
        "child = os.fork()\nif child == 0:\n    sys.exit(0)\nos.waitpid(child, 0)",
        (
            "import multiprocessing as mp\n"
            "child = mp.get_context('spawn').Process(target=os.getpid)\nchild.start()\nchild.join()"
        ),
    ],
    ids=["forked", "spawned"],
)
def test_a_child_that_exits_leaves_the_servers_to_its_parent(owner: Callable[..., Owner], bear_and_wait: str) -> None:
    parent = owner(f"report()\n{bear_and_wait}\nprint('servers answer' if answers(stores) else 'servers are gone')")

    said, complaints = parent.process.communicate(timeout=30)

    assert said.strip() == "servers answer", complaints
    assert parent.process.returncode == 0


def test_servers_started_from_a_thread_outlive_it() -> None:
    started: list[LocalStores] = []
    thread = threading.Thread(target=lambda: started.append(start_local_stores()))
    thread.start()
    thread.join()

    with started[0] as stores:
        write_something(stores)

        assert what_is_stored(stores) == ("yes", 1)
        stores.check()


def test_an_exception_in_the_with_block_ends_the_servers() -> None:
    stores = start_local_stores()
    pids = stores.pids

    with pytest.raises(ZeroDivisionError), stores:
        _ = 1 / 0

    assert not any(is_alive(pid) for pid in pids.values())
    assert not stores.directory.exists()


def test_when_the_watcher_is_killed_the_owner_learns_it_and_still_ends_the_servers(tmp_path: Path) -> None:
    with start_local_stores(tmp_path) as stores:
        pids = stores.pids
        os.kill(os.getpgid(pids["redis"]), signal.SIGKILL)

        with pytest.raises(LocalStoreError, match="watches"):
            wait_until(stores.check)
        with pytest.raises(LocalStoreError, match="in use"):
            start_local_stores(tmp_path)  # the servers live, so the directory is still theirs

    wait_until(lambda: not any(is_alive(pid) for pid in pids.values()))
    start_local_stores(tmp_path).close()


def test_two_stacks_in_one_process_have_nothing_in_common(stores: LocalStores) -> None:
    with start_local_stores() as other:
        write_something(other)
        assert other.redis_url != stores.redis_url
        assert what_is_stored(stores) == (None, 0)

    stores.check()
    assert what_is_stored(stores) == (None, 0)


# --- the data directory


def test_a_data_directory_keeps_its_data_from_start_to_start(tmp_path: Path) -> None:
    with start_local_stores(tmp_path / "data dir") as first:
        write_something(first)

    with start_local_stores(tmp_path / "data dir") as second:
        assert what_is_stored(second) == ("yes", 1)


def test_a_data_directory_can_be_used_again_at_once_after_its_owner_was_killed(
    owner: Callable[..., Owner], tmp_path: Path
) -> None:
    victim = owner("report()\nsignal.pause()", str(tmp_path))
    victim.process.kill()
    victim.process.wait()

    with start_local_stores(tmp_path) as stores:
        assert victim.everything_is_gone()
        write_something(stores)


def test_a_data_directory_in_use_is_refused_with_the_owners_id(tmp_path: Path) -> None:
    with (
        start_local_stores(tmp_path, mongo=False),
        pytest.raises(LocalStoreError, match=rf"in use by the local stores of process {os.getpid()}"),
    ):
        start_local_stores(tmp_path, mongo=False)


def test_a_file_is_no_data_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(LocalStoreError, match="cannot be the data directory"):
        start_local_stores(tmp_path / "file")


@pytest.mark.parametrize(
    ("server", "broken", "reason"),
    [
        ("mongod", "storage.bson", "storage engine metadata"),
        ("redis", "appendonly.aof", "Bad file format"),  # Redis 7 and later move it into a directory, then read it
    ],
)
def test_a_server_that_cannot_start_is_an_error_with_its_own_words(
    tmp_path: Path, server: str, broken: str, reason: str
) -> None:
    (tmp_path / server).mkdir()
    (tmp_path / server / broken).write_text("this is not what it should be\n")

    with pytest.raises(LocalStoreError, match=f"did not start .*(?s:.*){reason}"):
        start_local_stores(tmp_path)

    shutil.rmtree(tmp_path / server)
    with start_local_stores(tmp_path) as stores:  # nothing of the failed start is left in the way
        write_something(stores)


# --- servers that die


@pytest.fixture
def mortal() -> Iterator[LocalStores]:
    with start_local_stores() as stores:
        yield stores


def test_a_server_that_dies_is_reported_with_the_end_of_its_log(mortal: LocalStores) -> None:
    mortal.check()
    os.kill(mortal.pids["mongod"], signal.SIGKILL)

    with pytest.raises(LocalStoreError, match=r"mongod ended unexpectedly \(signal SIGKILL.*of its log:\n  20\d\d-"):
        wait_until(mortal.check)


def test_redis_restarts_on_its_address_with_its_content_or_empty(mortal: LocalStores) -> None:
    address = mortal.redis_url
    write_something(mortal)

    mortal.kill_redis()
    assert "redis" not in mortal.pids
    mortal.check()  # asked for, so not reported
    mortal.restart_redis(empty=False)
    assert what_is_stored(mortal) == ("yes", 1)

    mortal.restart_redis(empty=True)
    assert what_is_stored(mortal) == (None, 1)
    assert mortal.redis_url == address
    mortal.check()


def test_mongod_restarts_on_its_address_with_its_data(mortal: LocalStores) -> None:
    address = mortal.atlas_uri
    write_something(mortal)

    mortal.kill_mongo()
    assert "mongod" not in mortal.pids
    mortal.restart_mongo()

    assert mortal.atlas_uri == address
    assert what_is_stored(mortal) == ("yes", 1)


# --- ports and secrets


def ports_of(stores: LocalStores) -> dict[str, int]:
    redis_port, mongo_port = (urlsplit(url).port for url in (stores.redis_url, stores.atlas_uri))
    assert redis_port
    assert mongo_port
    return {"redis": redis_port, "mongod": mongo_port}


@pytest.mark.parametrize("server", ["redis", "mongod"])
def test_a_port_that_is_taken_first_is_replaced_by_another(
    stores: LocalStores, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    """Given that the first ports tried are another stack's, and one where nothing ever answers."""
    free_port = stores_module._free_port  # pyright: ignore[reportPrivateUsage]
    with socket.create_server(("127.0.0.1", 0)) as mute:
        taken = [ports_of(stores)[server], mute.getsockname()[1]]
        tried = [*taken]
        monkeypatch.setattr(stores_module, "_free_port", lambda: tried.pop(0) if tried else free_port())

        with start_local_stores(redis=server == "redis", mongo=server == "mongod") as other:
            assert tried == []
            assert urlsplit(other.redis_url if server == "redis" else other.atlas_uri).port not in taken
            other.check()


def test_only_loopback_is_served(stores: LocalStores) -> None:
    for port in ports_of(stores).values():
        socket.create_connection(("127.0.0.1", port), 5).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), 5).close()  # a server on all addresses would answer


def test_the_password_is_shown_nowhere(tmp_path: Path) -> None:
    with start_local_stores(tmp_path, mongo=False) as stores:
        password = stores.redis_url.split("@")[0].removeprefix("redis://:")
        assert len(password) >= 32
        processes = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True).stdout
        assert f"127.0.0.1:{urlsplit(stores.redis_url).port}" in processes
        assert password not in processes
        assert password not in repr(stores)
        assert password not in repr(servers.RedisServer(Path(), tmp_path, 1, password))

    assert not [path for path in tmp_path.rglob("*") if path.is_file() and password.encode() in path.read_bytes()]


def test_a_server_that_was_not_asked_for_has_no_address() -> None:
    with start_local_stores(mongo=False) as stores:
        assert list(stores.pids) == ["redis"]
        assert stores.programs == {"redis": "redis-server"}
        with pytest.raises(LocalStoreError, match="without mongod"):
            _ = stores.atlas_uri
