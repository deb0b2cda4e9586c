"""A streamed answer: rows are read while the server sends them, no faster than the caller takes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import msgspec
from tornado.httpclient import HTTPResponse

from dtqkit.control import Operation
from dtqkit.remote.http import Http

T = TypeVar("T")


async def rows(
    http: Http, operation: Operation[Any, AsyncIterator[Any]], request: Any, row: type[Any]
) -> AsyncIterator[Any]:
    """The rows of a streamed operation."""
    chunks: asyncio.Queue[bytes] = asyncio.Queue(maxsize=4)
    read = True

    async def take(chunk: bytes) -> None:
        if read:
            await chunks.put(chunk)

    asked = http.request(operation, request, request_timeout=0.0, streaming_callback=take)
    fetching = asyncio.create_task(http.fetch(asked, writes=operation.writes), name=f"read {operation.name}")
    rest = b""  # at the end: of a refusal, all of it; it has no line's end
    try:
        async for chunk in _until_done(chunks, fetching):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield msgspec.json.decode(line, type=row)
        response = await fetching
        if response.code >= 300:
            raise http.error_of(response, rest)
    finally:
        # The rest is read and dropped: an unread connection would stay open forever.
        read = False
        while not chunks.empty():
            chunks.get_nowait()
        fetching.cancel()


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
