"""A remote queue behind what is between it and its server: hosts that sleep, proxies, answers that are cut."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from dtqkit.control import JobQuery, JobRequest, StatsQuery, Submission
from dtqkit.control.operations import DEPTHS, GET_JOB, LIST_JOBS, STATS, SUBMIT
from dtqkit.model.errors import DtqError, OutcomeUnknown, SettingsError, StoreUnavailable
from dtqkit.model.events import Batch, Line
from dtqkit.remote import RemoteControl, http
from dtqkit.remote.tunnel import proxy_for
from tests.serving import TOKEN, Server
from tests.wait import wait_until_async
from tests.web.test_remote import JOB, answer

ACCEPTED = answer("201 Created", JOB)
ASLEEP = [answer(f"{status} Busy", b"<html>waking up") for status in (502, 503, 504)]
#: The connection is closed in the middle of the answer.
CUT = ACCEPTED[:-20]


class Host:
    """Gives the queued answers, the last one again and again; b"": never."""

    def __init__(self, *replies: bytes) -> None:
        self._replies = list(replies)
        self.bodies: list[dict[str, object]] = []
        self.url = ""

    @asynccontextmanager
    async def up(self) -> AsyncIterator[RemoteControl]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        remote = RemoteControl(self.url, "token")
        try:
            yield remote
        finally:
            await remote.close()
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        size = int(head.partition(b"content-length: ")[2].partition(b"\r")[0] or 0)
        body = await reader.readexactly(size)
        if body:
            self.bodies.append(json.loads(body))
        reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        if not reply:
            await reader.read()
        writer.write(reply)
        writer.close()


def against(host: Host, story: Callable[[RemoteControl], Awaitable[object]]) -> object:
    async def main() -> object:
        async with host.up() as remote:
            return await story(remote)

    return asyncio.run(main())


async def submit(remote: RemoteControl) -> str:
    return (await remote.ask(SUBMIT, Submission(task="t"))).id


def test_a_submit_is_sent_again_with_its_own_key_until_a_sleeping_host_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "ANSWER_S", 0.3)
    monkeypatch.setattr(http, "MAX_PAUSE_S", 0.3)
    host = Host(b"", *ASLEEP, CUT, ACCEPTED)
    assert against(host, submit) == "0123456789abcdef01234567"
    assert len(host.bodies) == 6
    (key,) = {str(body["idempotency_key"]) for body in host.bodies}
    assert len(key) > 20


def test_a_key_of_the_callers_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(ACCEPTED)
    against(host, lambda remote: remote.ask(SUBMIT, Submission(task="t", idempotency_key="mine")))
    assert host.bodies[0]["idempotency_key"] == "mine"


def test_only_when_the_time_is_over_the_outcome_is_unknown() -> None:
    async def story(remote: RemoteControl) -> None:
        started = asyncio.get_running_loop().time()
        with pytest.raises(OutcomeUnknown, match="answers 504"):
            await remote.ask(SUBMIT, Submission(task="t", wait_s=1.0))
        assert 0.3 < asyncio.get_running_loop().time() - started < 10

    against(Host(ASLEEP[2]), story)


def test_a_request_that_never_reached_the_server_is_not_reported_as_unknown() -> None:
    async def story(remote: RemoteControl) -> None:
        with pytest.raises(StoreUnavailable, match="answers 503") as failure:
            await remote.ask(SUBMIT, Submission(task="t", wait_s=0.5))
        assert not isinstance(failure.value, OutcomeUnknown)

    against(Host(ASLEEP[1]), story)


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (answer("302 Found", b"", "Location: https://login.example/?secret=1"), "has moved to https://login.example/;"),
        (answer("403 Forbidden", b"<html>sign in"), "answers 403.*an HTML page"),
        (answer("200 OK", b"<html>sign in"), "answers 200.*an HTML page"),
        (answer("200 OK", b'{"items": ['), "answers 200, and not as a dtqkit server does"),
        (CUT, "closed before the whole answer had come"),
    ],
)
def test_what_is_no_servers_answer_is_a_clear_error(reply: bytes, says: str) -> None:
    async def story(remote: RemoteControl) -> None:
        with pytest.raises(DtqError, match=says) as failure:
            await remote.ask(LIST_JOBS, JobQuery())
        assert "secret" not in str(failure.value)

    against(Host(reply), story)


# -- proxies


class ForwardProxy:
    """An HTTP proxy: tunnels by CONNECT, forwards by absolute address."""

    def __init__(self, status: str = "") -> None:
        self.asked: list[str] = []
        self.heads: list[bytes] = []
        self._status = status
        self.port = 0

    @asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, where, _ = head.split(b"\r\n")[0].decode().split(" ")
        self.asked.append(f"{method} {where}")
        self.heads.append(head)
        if self._status:
            writer.write(f"HTTP/1.1 {self._status}\r\nContent-Length: 0\r\n\r\n".encode())
            writer.close()
            return
        parts = urlsplit(f"//{where}" if method == "CONNECT" else where)
        theirs, ours = await asyncio.open_connection(parts.hostname, parts.port)
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            ours.write(head.replace(f"{method} {where}".encode(), f"{method} {path}".encode(), 1))

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65536):
                    sink.write(data)
            except OSError:
                pass
            sink.close()

        await asyncio.gather(pump(reader, ours), pump(theirs, writer))


def test_requests_and_the_stream_go_through_the_proxy_of_the_environment(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    received: list[Batch | Line] = []

    async def story() -> None:
        proxy = ForwardProxy()
        async with proxy.up():
            monkeypatch.setenv("HTTP_PROXY", f"http://user:p%40ss@127.0.0.1:{proxy.port}")
            remote = RemoteControl(server.http, TOKEN)
            await remote.ask(STATS, StatsQuery(window_s=60))
            job = await remote.ask(SUBMIT, Submission(task="add", payload={"a": 1}))
            assert (await remote.ask(GET_JOB, JobRequest(id=job.id))).id == job.id
            remote.subscribe(received.append)
            await wait_until_async(lambda: Line.UP in received)
            await remote.close()
        address = server.http.partition("//")[2]
        assert proxy.asked[0] == f"GET {server.http}/stats?window_s=60"
        assert proxy.asked[1] == f"POST {server.http}/jobs"
        assert f"CONNECT {address}" in proxy.asked
        assert all(b"Proxy-Authorization: Basic dXNlcjpwQHNz" in head for head in proxy.heads)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        before = len(proxy.asked)
        direct = RemoteControl(server.http, TOKEN)
        await direct.ask(DEPTHS)
        await direct.close()
        assert len(proxy.asked) == before

    asyncio.run(story())


def test_a_tls_server_is_reached_by_a_tunnel_and_a_refusal_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)

    async def story() -> None:
        proxy = ForwardProxy("407 Proxy Authentication Required")
        async with proxy.up():
            monkeypatch.setenv("HTTPS_PROXY", f"http://user:sesame@127.0.0.1:{proxy.port}")
            remote = RemoteControl("https://queue.example", TOKEN)
            with pytest.raises(StoreUnavailable, match=r"the proxy \S+ answers 407.*user and pass") as failure:
                await remote.ask(SUBMIT, Submission(task="t"))
            assert "sesame" not in str(failure.value)
            assert proxy.asked == ["CONNECT queue.example:443"]
            await remote.close()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("environ", "url", "found"),
    [
        ({}, "https://q.example", None),
        ({"HTTPS_PROXY": "http://p:3128"}, "https://q.example", "p:3128"),
        ({"https_proxy": "p:3128"}, "https://q.example", "p:3128"),
        ({"HTTPS_PROXY": "http://p:3128"}, "http://q.example", None),
        ({"ALL_PROXY": "http://p"}, "http://q.example", "p:80"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "localhost,.example"}, "https://q.example", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, "https://q.example", None),
    ],
)
def test_the_environment_names_the_proxy(
    environ: dict[str, str], url: str, found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    proxy = proxy_for(url)
    assert (str(proxy) if proxy else None) == found


def test_a_proxy_of_another_kind_is_refused_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "socks5://user:sesame@p:1080")
    with pytest.raises(SettingsError, match="HTTPS_PROXY names a proxy that cannot be used") as failure:
        RemoteControl("https://q.example")
    assert "sesame" not in str(failure.value)
