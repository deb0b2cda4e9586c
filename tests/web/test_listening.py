"""How the sockets of a server close: no client's request is cut off by it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tornado.web import Application, RequestHandler

from dtqkit.web.app import make_http_server
from dtqkit.web.connections import Connections
from dtqkit.web.listening import Sockets, stop_listening
from dtqkit.web.received import Share
from tests.serving import Server
from tests.wait import wait_until
from tests.web.load import Clients

Start = Callable[..., Server]
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
OK = b"HTTP/1.1 200"


class Hello(RequestHandler):
    def get(self) -> None:
        self.write("hello")


class Client(socket.socket):
    """Connects and sends without waiting; `sent` where it was connected at once."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__()
        self.setblocking(False)
        self.connect_ex(address)
        try:
            self.sent = self.send(REQUEST) > 0
        except (BlockingIOError, ConnectionRefusedError):
            self.sent = False

    def answer(self) -> bytes:
        with self:
            self.settimeout(10)
            return self.recv(len(OK))


class Listening(socket.socket):
    """A socket that one more client connects to when everything is accepted and it closes."""

    late: Client | None = None
    #: Whether no filter can be set, as elsewhere than on Linux.
    plain = False

    def __init__(self) -> None:
        super().__init__()
        self.bind(("127.0.0.1", 0))
        self.listen(100)
        self.setblocking(False)

    def setsockopt(self, *args: Any) -> None:
        if self.plain:
            raise PermissionError
        super().setsockopt(*args)

    def close(self) -> None:
        if self.fileno() >= 0:
            self.late = Client(self.getsockname())
        super().close()


def answers(*listeners: Listening, last: bool = True) -> list[bytes]:
    """Of clients that wait to be accepted when the sockets close."""

    async def story() -> list[bytes]:
        servers = [make_http_server(Application([("/", Hello)]), Connections(100)) for _ in listeners]
        for server, one in zip(servers, listeners, strict=True):
            server.add_sockets([one])
        waiting = [Client(one.getsockname()) for one in listeners for _ in range(10)]
        await stop_listening(servers, Sockets([listeners[0]], list(listeners[1:])), last=last, at_once=False)
        return await asyncio.to_thread(lambda: [client.answer() for client in waiting])

    return asyncio.run(story())


@pytest.mark.skipif(sys.platform != "linux", reason="the filter is Linux's")
def test_a_client_that_connects_when_the_socket_closes_is_refused_and_never_reset() -> None:
    listeners = Listening(), Listening()
    assert answers(*listeners) == [OK] * 20
    late = [one.late for one in listeners if one.late is not None]
    assert [client.sent for client in late] == [False, False]
    for client in late:
        with pytest.raises(ConnectionRefusedError):
            client.answer()


def test_where_no_filter_can_be_set_all_that_wait_are_answered() -> None:
    listeners = Listening(), Listening()
    for one in listeners:
        one.plain = True
    assert answers(*listeners) == [OK] * 20
    for one in listeners:
        assert one.late is not None
        one.late.close()


def test_sockets_that_other_processes_go_on_with_take_new_connections() -> None:
    ours = Listening()
    with socket.socket(fileno=os.dup(ours.fileno())) as theirs:
        assert answers(ours, last=False) == [OK] * 10
        assert ours.late is not None
        assert ours.late.sent
        with ours.late, theirs.accept()[0] as accepted:
            assert accepted.recv(100) == REQUEST


def test_only_the_last_process_of_a_server_that_stops_ends_the_sockets(tmp_path: Path) -> None:
    ended = bytearray(3)
    first, second = (Share(tmp_path, number, 2, ended) for number in range(2))
    assert not first.end()
    assert not second.end()  # their parent starts both again
    ended[:] = b"\0\0\1"
    assert not first.end()
    assert second.end()


PARENT = """
import ctypes, logging, os, pathlib, signal, sys, time
from dtqkit.web.received import Share
from dtqkit.web.run import _supervise

folder = pathlib.Path(sys.argv[1])
logging.basicConfig()

def work(number, ended):
    assert ended[number] == 0
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    note("up", os.getpid())
    while not asked:
        time.sleep(0.01)
    note("last" if Share(folder, number, 2, ended).end() else "not last", os.getpid())

def note(what, pid):
    with (folder / "notes").open("a") as file:
        file.write(f"{what} {pid}\\n")

ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: adopt orphans, as process 1 of a container does
if os.fork() == 0:
    if os.fork() == 0:
        time.sleep(0.1)
        note("orphan", os.getpid())
    os._exit(0)
os.wait()
_supervise(2, work, lambda: None)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted as on Linux")
def test_a_parent_starts_its_own_children_again_and_they_know_when_it_stops(tmp_path: Path) -> None:
    def pids(what: str) -> list[int]:
        text = (tmp_path / "notes").read_text() if (tmp_path / "notes").exists() else ""
        return [int(pid) for pid in re.findall(rf"^{what} (\d+)$", text, re.MULTILINE)]

    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    parent = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: len(pids("up")) == 2 and pids("orphan"), timeout_s=30)
        wait_until(lambda: not Path(f"/proc/{pids('orphan')[0]}").exists())
        alone = pids("up")[0]
        os.kill(alone, signal.SIGTERM)
        wait_until(lambda: len(pids("up")) > 2, timeout_s=30)
        assert (pids("not last"), pids("last")) == ([alone], [])
    finally:
        parent.terminate()
        _, output = parent.communicate(timeout=30)
    assert re.findall(r"process (\d+) ended", output) == [str(alone)]
    assert pids("last"), "none of them ended the sockets"


def test_processes_that_are_stopped_alone_lose_no_request_and_take_none_from_the_others(start_server: Start) -> None:
    server = start_server("--processes", "2", drain_s=0.3)
    assert server.process is not None
    parent = server.process.pid

    def children() -> set[int]:
        return set(map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split()))

    with Clients(urlsplit(server.http).port or 0, 2) as load:
        for count in 1, 2:  # with 2, no process is left until they are started again
            stopped = sorted(children())[:count]
            for pid in stopped:
                os.kill(pid, signal.SIGTERM)
            wait_until(lambda stopped=stopped: len(children() - set(stopped)) == 2, timeout_s=30)
            before = load.answers.total()
            wait_until(lambda before=before: load.answers.total() > before + 20, timeout_s=30)
    assert set(load.answers) == {201}
    assert server.stop() == 0
