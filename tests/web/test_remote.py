"""What a client of a server makes of answers that are none, or not all."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import pytest

from dtqkit.control import HistoryQuery, JobQuery, Submission
from dtqkit.control.operations import HISTORY, LIST_JOBS, SUBMIT, SUBMIT_MANY
from dtqkit.errors import DtqError, OutcomeUnknown, StoreUnavailable
from dtqkit.remote import MAX_CONNECTIONS, RemoteControl, http
from dtqkit.remote.http import Http

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


def told(replies: Sequence[bytes | None], story: Callable[[RemoteControl], Awaitable[T]]) -> T:
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
        told([None] * 20, submit)
    with pytest.raises(StoreUnavailable) as failure:
        told([None], look)
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
    codes = told([answer("200 OK", accepted), *([None] * 20)], submit)
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
def test_an_answer_that_is_not_a_servers_is_told_as_what_it_is(reply: bytes, says: str) -> None:
    async def story(remote: RemoteControl) -> None:
        await remote.ask(LIST_JOBS, JobQuery())

    with pytest.raises(DtqError, match=says):
        told([reply], story)


def test_histories_that_nobody_reads_to_the_end_keep_no_connection() -> None:
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

    assert told([long] * (MAX_CONNECTIONS + 3), story) == MAX_CONNECTIONS + 3


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
