"""A queue behind a server: the operations of `dtqkit.control` over HTTP, its events over the WebSocket."""

from __future__ import annotations

import asyncio
import errno
import logging
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Final, cast
from urllib.parse import urlencode, urlsplit

import msgspec
from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse
from tornado.simple_httpclient import HTTPStreamClosedError, HTTPTimeoutError, SimpleAsyncHTTPClient
from tornado.websocket import WebSocketClosedError, websocket_connect

from dtqkit import control
from dtqkit.control import (
    COLUMNS,
    MAX_BATCH,
    MAX_PAGE,
    MORE_COLUMNS,
    OPERATIONS,
    AttemptRow,
    BatchItem,
    DeadLetterQuery,
    HistoryQuery,
    JobQuery,
    Page,
    Refusal,
    Requeued,
    Submission,
    columns_of,
)
from dtqkit.errors import DtqError, JobNotFound, OutcomeUnknown, SettingsError, StoreUnavailable, WrongLoop, rebuild
from dtqkit.events import Batch, Depths, Heartbeat, Line, Snapshot
from dtqkit.jobs import Job, is_job_id
from dtqkit.messages import (
    CLOSE_UNAUTHORIZED,
    EventsMessage,
    FromServer,
    Hello,
    LineMessage,
    SnapshotMessage,
)
from dtqkit.tasks import TaskInfo

log = logging.getLogger("dtqkit.queue")

#: Connections at a time; further requests wait for one.
MAX_CONNECTIONS: Final = 32
#: Longest wait for a connection and for an answer, in seconds.
CONNECT_S: Final = 5.0
ANSWER_S: Final = 30.0
#: Bytes of one answer, and of one batch of submissions: the server takes 1 MiB.
MAX_ANSWER: Final = 256 * 1024 * 1024
MAX_BATCH_BYTES: Final = 900_000
#: Pause before the stream is opened again, in seconds: doubled each time.
MIN_PAUSE_S: Final = 0.1
MAX_PAUSE_S: Final = 5.0
#: The same when our token is not known there: each try counts against our address.
DENIED_S: Final = 60.0
#: Jobs that a snapshot shows.
RECENT: Final = 50

_OPERATIONS: Final = {operation.name: operation for operation in OPERATIONS}
_decoder: Final = msgspec.json.Decoder(FromServer)


class RemoteControl:
    """Implements `Control` on the event loop that uses it first.

    A server that is away is a StoreUnavailable, and OutcomeUnknown when it may have done what it was asked. The events
    come again by themselves once it is back.
    """

    def __init__(self, url: str, token: str = "") -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise SettingsError(
                "a server has an address as http://host:port or https://host/path; the token goes apart"
            )
        self._url = url.partition("#")[0].rstrip("/")
        self._token = token.strip()  # of a file with the line ends of Windows
        if wrong := next((char for char in self._token if ord(char) < 33 or ord(char) == 127), None):
            raise SettingsError(f"the token has the character {wrong!r} in it, which no header can carry")
        self._http: AsyncHTTPClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._callbacks: list[Callable[[Batch | Line], None]] = []
        self._following: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<RemoteControl {self._url}>"

    def _client(self) -> AsyncHTTPClient:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise WrongLoop("this queue lives on the event loop that used it first; make another one for this loop")
        if self._http is None:
            # An instance of our own, with its own limits.
            self._http = SimpleAsyncHTTPClient(
                force_instance=True, max_clients=MAX_CONNECTIONS, max_body_size=MAX_ANSWER, max_buffer_size=MAX_ANSWER
            )
        return self._http

    async def close(self) -> None:
        self._callbacks.clear()
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        if self._http is not None:
            self._http.close()

    # -- requests

    def _request(self, name: str, record: Any, path: dict[str, str], **more: Any) -> HTTPRequest:
        operation = _OPERATIONS[name]
        url = self._url + operation.path.format(**path)
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        body: bytes | None = None
        if operation.method == "POST":
            body = b"" if record is None else msgspec.json.encode(record)
            headers["Content-Type"] = "application/json"
        elif record is not None and (query := _query(record)):
            url = f"{url}?{query}"
        more = {"connect_timeout": CONNECT_S, "request_timeout": ANSWER_S + _waits_s(record), **more}
        return HTTPRequest(url, operation.method, headers, body, follow_redirects=False, **more)

    async def _ask(self, name: str, record: Any = None, **path: str) -> Any:
        """The answer to one operation. Raises the error that the server tells of."""
        response = await self._fetch(self._request(name, record, path), writes=_OPERATIONS[name].method == "POST")
        # Health answers 503 with its record when a store is away.
        if response.code < 300 or (name == "health" and response.code == 503):
            try:
                return msgspec.json.decode(response.body, type=_OPERATIONS[name].response)
            except (msgspec.DecodeError, UnicodeDecodeError):
                pass
        raise _error(response, response.body, self._url)

    async def _fetch(self, request: HTTPRequest, *, writes: bool) -> HTTPResponse:
        try:
            return await self._client().fetch(request, raise_error=False)
        except (HTTPStreamClosedError, HTTPTimeoutError) as error:
            sent = not any(part in str(error) for part in ("connecting", "in request queue"))
            kind = OutcomeUnknown if writes and sent else StoreUnavailable
            raise kind("the server", self._url, str(error)) from None
        except OSError as error:
            kind = OutcomeUnknown if writes and not _is_of_connecting(error) else StoreUnavailable
            raise kind("the server", self._url, error.strerror or str(error)) from None

    # -- operations

    async def submit(self, submission: Submission) -> Job:
        return await self._ask("submit", submission)

    async def submit_many(self, submissions: Sequence[Submission]) -> list[BatchItem]:
        """In as many requests as it takes, one after the other, until one is not answered."""
        items: list[BatchItem] = []
        try:
            for batch in _batches(submissions):
                items += await self._ask("submit_many", batch)
        except StoreUnavailable as error:
            if not items:
                raise
            # What was accepted before stays so: told that it was refused, its submitter would run it twice.
            refused = BatchItem(refused=Refusal(code=error.code, detail=str(error)))
            items += [refused] * (len(submissions) - len(items))
        return items

    async def get(self, job_id: str) -> Job:
        return await self._ask("get", id=_checked(job_id))

    async def get_many(self, job_ids: Sequence[str], *, payload: bool = True) -> list[Job]:  # noqa: ARG002
        return await self._of_ids(job_ids, brief=False)

    async def statuses(self, job_ids: Sequence[str]) -> list[control.JobStatus]:
        return [control.JobStatus(job.id, job.status, job.rev) for job in await self._of_ids(job_ids, brief=True)]

    async def _of_ids(self, job_ids: Sequence[str], *, brief: bool) -> list[Job]:
        ids = [job_id for job_id in job_ids if is_job_id(job_id)]
        chunks = [tuple(ids[start : start + MAX_PAGE]) for start in range(0, len(ids), MAX_PAGE)]
        queries = [JobQuery(ids=chunk, limit=MAX_PAGE, brief=brief) for chunk in chunks]
        pages = await asyncio.gather(*(self.jobs(query) for query in queries))
        return [job for page in pages for job in page.items]

    async def jobs(self, query: JobQuery) -> Page[Job]:
        return await self._ask("jobs", query)

    async def log(self, job_id: str) -> control.Log:
        return await self._ask("log", id=_checked(job_id))

    async def cancel(self, job_id: str) -> Job:
        return await self._ask("cancel", id=_checked(job_id))

    async def requeue(self, job_id: str) -> Job:
        return await self._ask("requeue", id=_checked(job_id))

    async def dead_letters(self, query: JobQuery) -> Page[Job]:
        return await self._ask("dead_letters", query)

    async def requeue_dead(self, query: DeadLetterQuery) -> Requeued:
        return await self._ask("requeue_dead", query)

    async def depths(self) -> Depths:
        return await self._ask("depths")

    async def workers(self) -> Sequence[Heartbeat]:
        return await self._ask("workers")

    async def tasks(self) -> Sequence[TaskInfo]:
        return await self._ask("tasks")

    async def stats(self, query: control.StatsQuery) -> control.Stats:
        return await self._ask("stats", query)

    async def totals(self) -> control.Totals:
        return await self._ask("totals")

    async def health(self) -> control.Health:
        return await self._ask("health")

    async def snapshot(self) -> Snapshot:
        jobs, depths = await asyncio.gather(self.jobs(JobQuery(limit=RECENT)), self.depths())
        try:
            workers = tuple(await self.workers())
        except StoreUnavailable:
            workers = ()
        return Snapshot(depths=depths, workers=workers, jobs=tuple(map(control.lean, jobs.items)))

    async def history(self, query: HistoryQuery) -> AsyncIterator[AttemptRow]:
        """Read while the server sends, no faster than it is asked for."""
        chunks: asyncio.Queue[bytes] = asyncio.Queue(maxsize=4)
        read = True

        async def take(chunk: bytes) -> None:
            if read:
                await chunks.put(chunk)

        more = tuple(name for name in columns_of(query) if name in MORE_COLUMNS)
        whole = msgspec.structs.replace(query, columns=(*COLUMNS, *more) if more else None)  # rows as records have them
        request = self._request("history", whole, {}, request_timeout=0.0, streaming_callback=take)
        fetching = asyncio.create_task(self._fetch(request, writes=False), name="read history")
        rest = b""  # at the end: of a refusal, all of it; it has no line's end
        try:
            async for chunk in _until_done(chunks, fetching):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield msgspec.json.decode(line, type=AttemptRow)
            response = await fetching
            if response.code >= 300:
                raise _error(response, rest, self._url)
        finally:
            # What comes still is read and left: a connection that nobody reads would be kept forever.
            read = False
            while not chunks.empty():
                chunks.get_nowait()
            fetching.cancel()

    # -- events

    def subscribe(self, callback: Callable[[Batch | Line], None]) -> Callable[[], None]:
        self._callbacks.append(callback)
        if self._following is None:
            self._following = asyncio.create_task(self._follow(), name="follow events")

        def unsubscribe() -> None:
            if callback in self._callbacks:
                self._callbacks.remove(callback)
            if not self._callbacks and self._following is not None:
                self._following.cancel()
                self._following = None

        return unsubscribe

    async def _follow(self) -> None:
        pause_s = 0.0
        while True:
            heard = await self._listen()
            if not pause_s or heard:
                log.warning("events of %s are missed: trying again", self._url)
            self._tell(Line.DOWN)
            pause_s = MIN_PAUSE_S if heard else min(MAX_PAUSE_S, pause_s * 2 or MIN_PAUSE_S)
            await asyncio.sleep((DENIED_S if heard is None else pause_s) * random.uniform(0.5, 1.0))

    async def _listen(self) -> bool | None:
        """Tell of the events until the connection ends; whether there was one. None: our token is not known there."""
        url = f"ws{self._url.removeprefix('http')}/ws"
        try:
            line = await websocket_connect(
                HTTPRequest(url, connect_timeout=CONNECT_S), ping_interval=20.0, max_message_size=MAX_ANSWER
            )
        except Exception as error:
            log.debug("no stream from %s: %s", self._url, error)
            return False
        heard = False
        try:
            await line.write_message(msgspec.json.encode(Hello(self._token)))
            while (text := await line.read_message()) is not None:
                heard = self._hear(text) or heard
        except (OSError, WebSocketClosedError) as error:
            log.debug("the stream from %s ended: %s", self._url, error)
        finally:
            line.close()
        if line.close_code == CLOSE_UNAUTHORIZED:
            log.error("the server does not let us hear its events: %s", line.close_reason)
            return None
        return heard

    def _hear(self, text: str | bytes) -> bool:
        """Whether it was a message of ours."""
        try:
            message: SnapshotMessage | EventsMessage | LineMessage = _decoder.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("a message of %s is left out: %s", self._url, error)
            return False
        match message:
            case SnapshotMessage():  # events before it may not have been heard
                self._tell(Line.UP)
            case EventsMessage():
                if message.jobs or message.progress:
                    self._tell(Batch(message.jobs, message.progress))
            case LineMessage():
                self._tell(Line.UP if message.up else Line.DOWN)
        return True

    def _tell(self, news: Batch | Line) -> None:
        for callback in list(self._callbacks):
            try:
                callback(news)
            except Exception:
                log.exception("a listener broke on an event")


def _checked(job_id: str) -> str:
    """`job_id`, if a job can have it."""
    if not is_job_id(job_id):
        raise JobNotFound(job_id)
    return job_id


def _is_of_connecting(error: OSError) -> bool:
    """Whether the request cannot have been sent."""
    unreached = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL)
    return isinstance(error, ConnectionRefusedError | socket.gaierror | ssl.SSLError) or error.errno in unreached


async def _until_done(chunks: asyncio.Queue[bytes], fetching: asyncio.Task[HTTPResponse]) -> AsyncIterator[bytes]:
    """What comes until the fetch has ended, and what it left."""
    while not fetching.done() or not chunks.empty():
        if not chunks.empty():
            yield chunks.get_nowait()
            continue
        getting = asyncio.create_task(chunks.get(), name="next chunk")
        await asyncio.wait({getting, fetching}, return_when=asyncio.FIRST_COMPLETED)
        if getting.done():
            yield getting.result()
        else:
            getting.cancel()


def _waits_s(record: Any) -> float:
    """How long the server may try to submit what is in `record`, in seconds, because it asks for that."""
    wanted = cast("Sequence[Any]", record if isinstance(record, list | tuple) else (record,))
    return max((one.wait_s or 0.0 for one in wanted if isinstance(one, Submission)), default=0.0)


def _query(record: msgspec.Struct) -> str:
    """The fields that are not their default, as a query string."""
    given = cast("dict[str, Any]", msgspec.to_builtins(record))
    return urlencode({name: _text(value) for name, value in given.items()})


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(cast("list[str]", value)) if isinstance(value, list | tuple) else str(value)


def _batches(submissions: Sequence[Submission]) -> Iterator[list[msgspec.Raw]]:
    """Encoded submissions, in groups that one request can carry."""
    batch: list[msgspec.Raw] = []
    size = 0
    for submission in submissions:
        text = msgspec.json.encode(submission)
        if batch and (len(batch) >= MAX_BATCH or size + len(text) > MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(msgspec.Raw(text))
        size += len(text) + 1
    if batch:
        yield batch


def _error(response: HTTPResponse, body: bytes, url: str) -> DtqError:
    """The error that an answer tells of, in the class that it had there."""
    status = response.code
    if 300 <= status < 400:
        return DtqError(f"{url} answers {status}: it has moved to {response.headers.get('Location', 'elsewhere')}")
    try:
        problem: dict[str, Any] = msgspec.json.decode(body, type=dict[str, Any])
        errors: list[dict[str, Any]] = problem.get("errors") or [{}]
        return rebuild(str(problem["code"]), str(problem["detail"]), errors[0])
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, IndexError):
        pass
    if status in (502, 503, 504):
        return StoreUnavailable("the server", url, f"a proxy answers {status} in its place")
    return DtqError(f"{url} answers {status}, and not as a dtqkit server does")
