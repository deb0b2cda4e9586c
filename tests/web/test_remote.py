"""What a client of a server makes of answers that are none, or not all."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tornado.simple_httpclient import HTTPStreamClosedError, HTTPTimeoutError

from dtqkit import TaskQueue
from dtqkit.client.late import counted
from dtqkit.control import HistoryQuery, JobQuery, Submission
from dtqkit.control.operations import HEALTH, HISTORY, LIST_JOBS, SUBMIT, SUBMIT_MANY, TASKS, WORKERS
from dtqkit.control.pauses import PAUSES, PausesRequest
from dtqkit.control.schedule_operations import SCHEDULES
from dtqkit.model.errors import AccessDenied, DtqError, OutcomeUnknown, SettingsError, StoreUnavailable
from dtqkit.model.events import Batch, Line
from dtqkit.model.jobs import Job
from dtqkit.remote import MAX_CONNECTIONS, RemoteControl, http
from dtqkit.remote.events import Events
from dtqkit.remote.http import Http
from dtqkit.remote.trouble import why_unreached
from tests.command import dtqkit
from tests.serving import Server

T = TypeVar("T")
JOB = b'{"id":"0123456789abcdef01234567","task":"t","payload":{},"created_at":"2026-01-01T00:00:00Z"}'
ROW = (
    b'{"job":"0123456789abcdef01234567","task":"t","priority":"low","status":"completed","number":1,"worker":"w",'
    b'"queued_at":"2026-01-01T00:00:00Z","claimed_at":"2026-01-01T00:00:00Z","started_at":"2026-01-01T00:00:00Z",'
    b'"ended_at":null,"wait_s":0.0,'
    b'"run_s":null,"ending":null,"error":null}\n'
)


def answer(status: str, body: bytes, *more: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Content-Type: application/json", *more, "", ""]
    return "\r\n".join(head).encode() + body


def against(replies: Sequence[bytes | None], story: Callable[[RemoteControl], Awaitable[T]]) -> T:
    """`story` against a server that gives these replies, one a connection; None: it resets the connection."""
    left = list(replies)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length: "):
                await reader.readexactly(int(line.partition(b": ")[2]))
        reply = left.pop(0)
        if reply is None:
            sock: socket.socket = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            writer.write(reply)
            await writer.drain()
        writer.close()

    async def main() -> T:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        remote = RemoteControl(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "token")
        try:
            return await story(remote)
        finally:
            await remote.close()
            server.close()
            await server.wait_closed()

    return asyncio.run(main())


def test_a_write_whose_connection_is_reset_may_have_been_done(monkeypatch: pytest.MonkeyPatch) -> None:
    async def submit(remote: RemoteControl) -> None:
        await remote.ask(SUBMIT, Submission(task="t"))

    async def look(remote: RemoteControl) -> None:
        await remote.ask(LIST_JOBS, JobQuery())

    monkeypatch.setattr(http, "WAKE_S", 0.5)
    with pytest.raises(OutcomeUnknown):
        against([None] * 20, submit)
    with pytest.raises(StoreUnavailable) as failure:
        against([None], look)
    assert not isinstance(failure.value, OutcomeUnknown)


def test_a_server_that_is_not_there_has_done_nothing() -> None:
    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0)) as gone:
            port = gone.getsockname()[1]
        remote = RemoteControl(f"http://127.0.0.1:{port}")
        try:
            await remote.ask(SUBMIT, Submission(task="t"))
        finally:
            await remote.close()

    with pytest.raises(StoreUnavailable) as failure:
        asyncio.run(story())
    assert not isinstance(failure.value, OutcomeUnknown)


def test_what_a_large_batch_has_got_accepted_stays_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def submit(remote: RemoteControl) -> list[str | None]:
        items = await remote.ask(SUBMIT_MANY, (Submission(task="t"),) * 2_500)
        return [item.refused.code if item.refused else None for item in items]

    accepted = b"[" + b",".join([b'{"job":' + JOB + b"}"] * 1_000) + b"]"
    monkeypatch.setattr(http, "WAKE_S", 0.5)
    codes = against([answer("200 OK", accepted), *([None] * 20)], submit)
    assert codes == [None] * 1_000 + ["outcome_unknown"] * 1_500


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (answer("301 Moved Permanently", b"<html>", "Location: https://elsewhere"), "moved to https://elsewhere"),
        (answer("200 OK", b"<html>log in</html>"), "not as a dtqkit server"),
        (answer("404 Not Found", b"\xff"), "answers 404"),
        (answer("502 Bad Gateway", b"<html>"), "a proxy answers 502"),
    ],
)
def test_an_answer_that_is_not_a_dtqkit_servers_is_reported_as_such(reply: bytes, says: str) -> None:
    async def story(remote: RemoteControl) -> None:
        await remote.ask(LIST_JOBS, JobQuery())

    with pytest.raises(DtqError, match=says):
        against([reply], story)


def test_histories_that_are_not_read_to_the_end_keep_no_connection() -> None:
    long = answer("200 OK", ROW * 20_000)

    async def story(remote: RemoteControl) -> int:
        read = 0
        for _ in range(MAX_CONNECTIONS + 3):
            rows: Any = await remote.ask(HISTORY, HistoryQuery())
            async for _ in rows:
                read += 1
                break
            await rows.aclose()
        return read

    assert against([long] * (MAX_CONNECTIONS + 3), story) == MAX_CONNECTIONS + 3


def test_a_submit_that_the_server_may_try_for_a_while_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def ask(_: Http, name: str, record: Any, *, answer_s: float) -> Any:
        waited.append(answer_s)
        raise StoreUnavailable("the server", "", "not now")

    async def story() -> None:
        remote = RemoteControl("http://127.0.0.1:1")
        one, more = Submission(task="t", wait_s=15.0), Submission(task="t")
        for submitted in (remote.ask(SUBMIT, more), remote.ask(SUBMIT, one), remote.ask(SUBMIT_MANY, (more, one))):
            with contextlib.suppress(StoreUnavailable):
                await submitted
        await remote.close()

    monkeypatch.setattr(Http, "ask", ask)
    asyncio.run(story())
    assert waited == [30.0, 45.0, 45.0]


# -- errors about a server that cannot be used


def why(error: Exception, url: str = "https://queue.example") -> str:
    return why_unreached(error, url, connect_s=5.0, answer_s=30.0)


def untrusted(message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, f"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {message}")
    error.verify_message = message
    return error


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "whether `dtqkit server` runs there"),
        (ConnectionResetError(104, "Connection reset by peer"), "it closed the connection"),
        (OSError(113, "No route to host"), "check host, network and firewalls"),
        (socket.gaierror(-2, "Name or service not known"), "host name cannot be resolved"),
        (untrusted("self-signed certificate"), "SSL_CERT_FILE=/path/ca.pem"),
        (untrusted("Hostname mismatch, certificate is not valid for 'h'"), "for another host name"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "write http:// for https://"),
        (ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] alert"), "a client certificate"),
        (HTTPTimeoutError("Timeout while connecting"), "no connection within 5 s: check host and port, firewalls"),
        (HTTPTimeoutError("Timeout during request"), "no answer within 30 s: https://queue.example/health says"),
        (HTTPTimeoutError("Timeout in request queue"), "too many requests under way"),
        (HTTPStreamClosedError("Connection closed"), "perhaps it is no HTTP server"),
    ],
)
def test_what_keeps_a_client_from_its_server_comes_with_its_cure(error: Exception, cure: str) -> None:
    assert cure in why(error)
    assert "\n" not in why(error)


def test_a_plain_request_to_a_port_of_tls_may_be_meant() -> None:
    assert why(HTTPStreamClosedError("Connection closed"), "http://h").endswith("speaks only TLS there (https://)")


@pytest.mark.parametrize(
    "url",
    ["localhost:3000", "http://:3000", "http://h:99999", "http://h:x", "http://a..b", "http://[::1", "http://x y"],
)
def test_an_address_that_no_server_can_have_is_refused_at_once_and_shown(url: str) -> None:
    with pytest.raises(SettingsError, match="http://host:port or https://host/path") as caught:
        RemoteControl(url, "canary-token")
    assert repr(url) in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://u:canary@h", "http://h/?token=canary", "canary@h#canary"])
def test_a_password_in_a_wrong_address_is_not_shown(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        RemoteControl(url)
    assert "canary" not in str(caught.value)


def test_every_error_of_a_server_that_is_none_names_its_address_and_never_the_token(
    caplog: pytest.LogCaptureFixture,
) -> None:
    page = b"<!doctype html><html>log in</html>"
    with socket.create_server(("127.0.0.1", 0)) as gone:
        closed = f"http://127.0.0.1:{gone.getsockname()[1]}"

    async def refusal(url: str) -> str:
        remote = RemoteControl(url, "canary-token")
        try:
            await remote.ask(LIST_JOBS, JobQuery())
        except DtqError as error:
            return f"{error} {error!r}"
        finally:
            await remote.close()
        raise AssertionError(url)

    async def story(remote: RemoteControl) -> str:
        return f"{repr(remote).split()[-1][:-1]} {await refusal(repr(remote).split()[-1][:-1])}"

    for reply, cure in (
        (answer("200 OK", page), "with an HTML page (a proxy's, or one to sign in?)"),
        (answer("401 Unauthorized", page), "check the address: host, port and path"),
        (answer("502 Bad Gateway", page), "the server behind it is starting, or does not run"),
        (b"", "perhaps it is no HTTP server"),
    ):
        url, _, said = against([reply], story).partition(" ")
        assert url in said
        assert cure in said
        assert "canary" not in said
    for url in (closed, "http://no-such-host.invalid:3000", closed.replace("http:", "https:")):
        said = asyncio.run(refusal(url))
        assert f"the server at {url}: " in said
        assert "canary" not in said
    assert "canary" not in caplog.text


def test_a_wrong_or_missing_token_is_reported_with_the_address_and_the_cure(server: Server) -> None:
    wrong = "canary-0123456789"
    for token, cure in ((wrong, "compare it with DTQ_TOKEN of the server"), ("", "TaskQueue.connect(url, token=…)")):
        with TaskQueue.connect(server.http, token=token) as queue, pytest.raises(AccessDenied) as caught:
            queue.jobs()
        assert f"the server at {server.http}: " in str(caught.value)
        assert cure in str(caught.value)
        assert "canary" not in str(caught.value)


def test_the_command_line_ends_with_one_line_and_status_1_when_its_server_is_away(tmp_path: Path) -> None:
    (tmp_path / "far_app.py").write_text(
        "from dtqkit import TaskQueue\n"
        "queue = TaskQueue.connect('http://127.0.0.1:9', token='canary-token')\n"
        "@queue.task\n"
        "def add(a: int) -> int: return a\n"
    )
    done = dtqkit("submit", "far_app:queue", "add", "a=1", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("dtqkit: the server at http://127.0.0.1:9: nothing listens there")
    assert "canary" not in line


def test_a_worker_of_a_queue_behind_a_server_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "far_app.py").write_text(
        "from dtqkit import TaskQueue\n"
        "queue = TaskQueue.connect('http://127.0.0.1:9')\n"
        "@queue.task\n"
        "def add(a: int) -> int: return a\n"
    )
    for command in (("worker", "far_app:queue"), ("up", "--app", "far_app:queue", "--port", "0", "--ws-port", "0")):
        done = dtqkit(*command, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert "they need a TaskQueue(), with REDIS_URL and ATLAS_URI" in done.stderr


# -- a newer server


def test_kinds_that_a_newer_server_has_are_kept_as_text() -> None:
    attempt = (
        b'{"number":1,"worker":"w","queued_at":"2026-01-01T00:00:00Z","claimed_at":"2026-01-01T00:00:00Z",'
        b'"ending":"evicted","error":{"kind":"quota","type":"QuotaExceeded","message":"no"}}'
    )
    job = (
        JOB[:-1] + b',"status":"blocked","priority":"urgent","unique":"forever","backoff":"fibonacci","unique_key":"k"'
    )
    job += b',"hue":"red","earlier":[' + attempt + b"]}"
    page = b'{"items":[' + job + b'],"cursor":null}'

    async def story(control: RemoteControl) -> Job:
        return (await control.ask(LIST_JOBS, JobQuery())).items[0]

    found = against([answer("200 OK", page)], story)
    assert (found.status, found.priority, found.unique, found.backoff) == ("blocked", "urgent", "forever", "fibonacci")
    (attempted,) = found.earlier
    assert attempted.ending == "evicted"
    assert attempted.error is not None
    assert attempted.error.kind == "quota"
    assert (found.is_over, found.is_final) == (False, False)
    assert found.uniqueness == "forever, key k, 0 duplicates"
    assert counted([found.status, "running"]) == "2 jobs: 1 running, 1 blocked"


def test_kinds_of_everything_else_that_a_newer_server_answers_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    row = ROW.replace(b'"status":"completed"', b'"status":"blocked"').replace(b'"ending":null', b'"ending":"evicted"')
    health = b'{"status":"resting","redis":"slow","mongodb":"up","unserved":["urgent"]}'
    beat = (
        b'[{"id":"w","name":"w","host":"h","pid":1,"lanes":["urgent"],"concurrency":1,"load":0,"version":"9",'
        b'"started_at":"2026-01-01T00:00:00Z","status":"sleeping"}]'
    )
    schedule = (
        b'[{"name":"s","task":"t","cron":"* * * * *","overlap":"merge","catch_up_runs":"first",'
        b'"created_at":"2026-01-01T00:00:00Z","anchor_at":"2026-01-01T00:00:00Z"}]'
    )
    pause = b'[{"id":"lane:urgent","lane":"urgent","paused_at":"2026-01-01T00:00:00Z"}]'

    async def story(control: RemoteControl) -> list[Any]:
        rows = [one.ending async for one in await control.ask(HISTORY, HistoryQuery())]
        return [
            *rows,
            (await control.ask(HEALTH)).status,
            (await control.ask(WORKERS))[0].status,
            (await control.ask(SCHEDULES))[0].overlap,
            (await control.ask(PAUSES, PausesRequest()))[0].lane,
        ]

    replies = [answer("200 OK", body) for body in (row, health, beat, schedule, pause)]
    assert against(replies, story) == ["evicted", "resting", "sleeping", "merge", "urgent"]


def test_tasks_of_a_newer_server_are_listed_as_far_as_they_can_be_read(caplog: pytest.LogCaptureFixture) -> None:
    def task(name: str, defaults: str, more: str = "") -> str:
        rest = '"description":"","schema":{"type":"object"},"schema_hash":"x","importable":true'
        return f'{{"name":"{name}",{rest},"defaults":{{{defaults}}}{more}}}'

    listed = [
        task("plain", '"priority":"low"'),
        task("fields", '"priority":"low","region":"north"', ',"version":3,"owner":{"team":"a"}'),
        task("kind", '"isolation":"container"'),
        task("shape", '"backoff":"fibonacci"'),
        task("bound", '"max_attempts":100000'),
        '{"name":"less"}',
        '"text"',
        task("last", ""),
    ]

    async def story(control: RemoteControl) -> list[str]:
        return [one.name for _ in range(2) for one in await control.ask(TASKS)]

    body = f"[{','.join(listed)}]".encode()
    assert against([answer("200 OK", body)] * 2, story) == ["plain", "fields", "last"] * 2
    said = [record.getMessage() for record in caplog.records if "a task is not listed" in record.getMessage()]
    assert len(said) == 5
    assert "container" in said[0]


def test_an_event_of_a_kind_that_a_newer_server_has_is_passed_on_or_skipped(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Batch | Line] = []

    async def main() -> None:
        events = Events("http://127.0.0.1:1", "", None)
        events._callbacks.append(seen.append)
        job = '{"id":"0123456789abcdef01234567","rev":2,"status":"blocked","task":"t","priority":"urgent"}'
        assert events._receive(f'{{"type":"events","jobs":[{job}],"progress":[]}}')
        for _ in range(3):
            assert not events._receive('{"type":"flow","nodes":[]}')

    asyncio.run(main())
    (batch,) = seen
    assert isinstance(batch, Batch)
    assert [(event.status, event.priority) for event in batch.jobs] == [("blocked", "urgent")]
    assert sum("unreadable message" in record.getMessage() for record in caplog.records if record.levelno >= 30) == 1
