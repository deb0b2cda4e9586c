"""Tasks for the board: one with every kind of argument, and some that take their time or fail."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Annotated, Any, Literal

import msgspec

from dtqkit import Context, task

Page = Annotated[int, msgspec.Meta(ge=1, description="Counted from one.")]


@task
async def render(
    page: Page,
    paper: Literal["a4", "a5"],
    day: date,
    title: str = "untitled",
    scale: float = 1.0,
    draft: bool = False,
    marks: list[int] | None = None,
) -> dict[str, Any]:
    """Render one page of a document."""
    return {"page": page, "paper": paper, "day": day.isoformat(), "title": title, "draft": draft, "marks": marks}


@task(max_attempts=1)
async def walk(ctx: Context, steps: int = 200) -> str:
    """Takes a step every 50 ms and reports its progress."""
    for step in range(steps):
        ctx.progress((step + 1) / steps, f"step {step + 1}")
        ctx.log(f"took step {step + 1}")
        await asyncio.sleep(0.05)
    return "arrived"


@task(max_attempts=2, backoff_s=0.01)
async def explode(message: str) -> None:
    raise ValueError(message)


@task
async def heal(patient: str) -> str:
    """Fails until a test adds the patient to `HEALTHY`."""
    if patient not in HEALTHY:
        raise RuntimeError(f"{patient} is not well")
    return f"{patient} is well"


#: Shared with the test, which runs the worker in its own process.
HEALTHY: set[str] = set()
