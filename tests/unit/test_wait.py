"""Waiting for jobs, on a control that misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from dtqkit.control import Control
from dtqkit.errors import AccessDenied
from dtqkit.jobs import Job
from dtqkit.wait import Waiter


class Refusing:
    """Knows nobody's token."""

    def subscribe(self, callback: Any) -> Any:  # noqa: ARG002
        return lambda: None

    async def get_many(self, job_ids: Sequence[str]) -> list[Job]:  # noqa: ARG002
        raise AccessDenied("no such token")


def test_a_look_that_is_refused_ends_the_wait_and_the_next_wait_too() -> None:
    async def wait_twice() -> None:
        waiter = Waiter(cast(Control, Refusing()))
        try:
            for _ in range(2):
                with pytest.raises(AccessDenied):
                    await asyncio.wait_for(waiter.wait(["a" * 24], lambda _: None), 5)
        finally:
            await waiter.close()

    asyncio.run(wait_twice())
