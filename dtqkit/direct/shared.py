"""One look at the record for all callers that ask the same at the same time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

from dtqkit.model.errors import StoreUnavailable

T = TypeVar("T")

#: A look that took longer than this (in seconds) is expensive.
CHEAP_S: Final = 0.1
#: Different questions that are remembered.
_KEPT: Final = 16


class _Look(Generic[T]):
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.began = self.good_until = float("-inf")
        self.answer: T | StoreUnavailable | None = None


class Shared(Generic[T]):
    """An answer is of a look that began after it was asked for; or before, where looks are expensive: one that took
    long is good for `good_for` times as long again.
    """

    def __init__(self, good_for: float = 0.0) -> None:
        self._good_for = good_for
        self._looks: OrderedDict[Hashable, _Look[T]] = OrderedDict()

    async def get(self, key: Hashable, look: Callable[[], Awaitable[T]]) -> T:
        clock = asyncio.get_running_loop().time
        asked = clock()
        shared = self._looks.setdefault(key, _Look[T]())
        self._looks.move_to_end(key)
        while len(self._looks) > _KEPT:
            self._looks.popitem(last=False)
        async with shared.lock:
            if shared.answer is None or (shared.began < asked and clock() >= shared.good_until):
                shared.began = clock()
                try:
                    shared.answer = await look()
                except StoreUnavailable as error:  # asking more often would not help
                    shared.answer = error
                took = clock() - shared.began
                shared.good_until = clock() + (self._good_for * took if took > CHEAP_S else 0.0)
            answer = shared.answer
        if isinstance(answer, StoreUnavailable):
            raise answer
        return answer
