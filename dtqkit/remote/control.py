"""A queue behind a server: the operations of `dtqkit.control` over HTTP, its events over the WebSocket."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Final, cast

import msgspec
from tornado.httpclient import HTTPRequest, HTTPResponse
from tornado.httpclient import _RequestProxy as RequestWithDefaults  # pyright: ignore[reportPrivateUsage]
from tornado.websocket import WebSocketClientConnection, WebSocketClosedError, websocket_connect

from dtqkit import control
from dtqkit.control import (
    COLUMNS,
    MAX_BATCH,
    MAX_PAGE,
    MORE_COLUMNS,
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
from dtqkit.errors import JobNotFound, SettingsError, StoreUnavailable
from dtqkit.events import Batch, Depths, Heartbeat, Line, Snapshot
from dtqkit.jobs import Job, is_job_id
from dtqkit.messages import (
    CLOSE_UNAUTHORIZED,
    SILENT_S,
    BeatMessage,
    EventsMessage,
    FromServer,
    Hello,
    LineMessage,
    SnapshotMessage,
)
from dtqkit.remote.http import CONNECT_S, MAX_ANSWER, Http
from dtqkit.remote.trouble import checked_url
from dtqkit.remote.tunnel import Tunnel
from dtqkit.tasks import TaskInfo

log = logging.getLogger("dtqkit.queue")

#: Bytes of one batch of submissions: the server takes 1 MiB.
MAX_BATCH_BYTES: Final = 900_000
#: Pause before the stream is opened again, in seconds: doubled each time.
MIN_PAUSE_S: Final = 0.1
MAX_PAUSE_S: Final = 5.0
#: The same when our token is not known there: each try counts against our address.
DENIED_S: Final = 60.0
#: Jobs that a snapshot shows.
RECENT: Final = 50

_decoder: Final = msgspec.json.Decoder(FromServer)


class RemoteControl:
    """Implements `Control` on the event loop that uses it first.

    A server that is away is a StoreUnavailable, and OutcomeUnknown when it may have done what it was asked. The events
    come again by themselves once it is back.
    """

    def __init__(self, url: str, token: str = "") -> None:
        self._url = checked_url(url)
        token = token.strip()  # of a file with the line ends of Windows
        if wrong := next((char for char in token if ord(char) < 33 or ord(char) == 127), None):
            raise SettingsError(f"the token has the character {wrong!r} in it, which no header can carry")
        self._token = token
        self._http = Http(self._url, token)
        self._callbacks: list[Callable[[Batch | Line], None]] = []
        self._following: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<RemoteControl {self._url}>"

    async def close(self) -> None:
        self._callbacks.clear()
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        self._http.close()

    # -- operations

    async def submit(self, submission: Submission) -> Job:
        """With an idempotency key of its own, so that it can be sent again until it is known whether it was done."""
        return await self._http.ask_until_known("submit", _with_key(submission), submission.wait_s)

    async def submit_many(self, submissions: Sequence[Submission]) -> list[BatchItem]:
        """In as many requests as it takes, one after the other, until one is not answered."""
        items: list[BatchItem] = []
        waits = [submission.wait_s for submission in submissions if submission.wait_s is not None]
        wait_s = max(waits) if waits else None
        try:
            for batch in _batches([_with_key(submission) for submission in submissions]):
                items += await self._http.ask_until_known("submit_many", batch, wait_s)
        except StoreUnavailable as error:
            if not items:
                raise
            # What was accepted before stays so: told that it was refused, its submitter would run it twice.
            refused = BatchItem(refused=Refusal(code=error.code, detail=str(error)))
            items += [refused] * (len(submissions) - len(items))
        return items

    async def get(self, job_id: str) -> Job:
        return await self._http.ask("get", id=_checked(job_id))

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
        return await self._http.ask("jobs", query)

    async def log(self, job_id: str) -> control.Log:
        return await self._http.ask("log", id=_checked(job_id))

    async def cancel(self, job_id: str) -> Job:
        return await self._http.ask("cancel", id=_checked(job_id))

    async def requeue(self, job_id: str) -> Job:
        return await self._http.ask("requeue", id=_checked(job_id))

    async def dead_letters(self, query: JobQuery) -> Page[Job]:
        return await self._http.ask("dead_letters", query)

    async def requeue_dead(self, query: DeadLetterQuery) -> Requeued:
        return await self._http.ask("requeue_dead", query)

    async def depths(self) -> Depths:
        return await self._http.ask("depths")

    async def workers(self) -> Sequence[Heartbeat]:
        return await self._http.ask("workers")

    async def tasks(self) -> Sequence[TaskInfo]:
        return await self._http.ask("tasks")

    async def stats(self, query: control.StatsQuery) -> control.Stats:
        return await self._http.ask("stats", query)

    async def totals(self) -> control.Totals:
        return await self._http.ask("totals")

    async def health(self) -> control.Health:
        return await self._http.ask("health")

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
        request = self._http.request("history", whole, {}, request_timeout=0.0, streaming_callback=take)
        fetching = asyncio.create_task(self._http.fetch(request, writes=False), name="read history")
        rest = b""  # at the end: of a refusal, all of it; it has no line's end
        try:
            async for chunk in _until_done(chunks, fetching):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield msgspec.json.decode(line, type=AttemptRow)
            response = await fetching
            if response.code >= 300:
                raise self._http.error_of(response, rest)
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
            line = await self._line(HTTPRequest(url, connect_timeout=CONNECT_S, request_timeout=SILENT_S))
        except Exception as error:
            log.debug("no stream from %s: %s", self._url, error)
            return False
        heard = False
        try:
            await line.write_message(msgspec.json.encode(Hello(self._token)))
            # A path that says nothing is dead, whatever the socket says: the server has a beat.
            while (text := await asyncio.wait_for(line.read_message(), SILENT_S)) is not None:
                heard = self._hear(text) or heard
        except (OSError, TimeoutError, WebSocketClosedError) as error:
            log.debug("the stream from %s ended: %s", self._url, error)
        finally:
            line.close()
        if line.close_code == CLOSE_UNAUTHORIZED:
            log.error("the server at %s refuses to stream its events: %s", self._url, line.close_reason)
            return None
        return heard

    async def _line(self, request: HTTPRequest) -> WebSocketClientConnection:
        if self._http.proxy is None:
            return await websocket_connect(request, max_message_size=MAX_ANSWER)
        whole = cast("HTTPRequest", RequestWithDefaults(request, HTTPRequest._DEFAULTS))  # pyright: ignore[reportPrivateUsage]
        line = WebSocketClientConnection(whole, max_message_size=MAX_ANSWER)
        line.tcp_client = Tunnel(self._http.proxy, always=True)  # it connects in the loop's next turn
        return await line.connect_future

    def _hear(self, text: str | bytes) -> bool:
        """Whether it was a message of ours."""
        try:
            message: SnapshotMessage | EventsMessage | LineMessage | BeatMessage = _decoder.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("a message of %s is left out: %s", self._url, error)
            return False
        match message:
            case BeatMessage():
                pass
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


def _with_key(submission: Submission) -> Submission:
    if submission.idempotency_key is not None:
        return submission
    return msgspec.structs.replace(submission, idempotency_key=f"remote-{secrets.token_hex(16)}")


def _checked(job_id: str) -> str:
    """`job_id`, if a job can have it."""
    if not is_job_id(job_id):
        raise JobNotFound(job_id)
    return job_id


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
