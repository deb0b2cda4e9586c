"""Answers about pauses, and what a pause is checked against: the tasks that are known here or to the workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from dtqkit.control.pauses import (
    PAUSE,
    PAUSES,
    RESUME,
    PauseRequest,
    PausesRequest,
    PauseTarget,
    check_target,
    check_until,
    defaults_of,
    refused,
)
from dtqkit.control.where import check_fits
from dtqkit.direct.parts import Parts, answers
from dtqkit.model.jobs import Priority
from dtqkit.model.pause_errors import InvalidPause, NotPaused
from dtqkit.model.pauses import MAX_PAUSES, Pause, Pauses, id_of, name_of
from dtqkit.support.nearest import nearest
from dtqkit.transitions.pause import pause as begin
from dtqkit.transitions.pause import resume as end


async def in_force(parts: Parts) -> Pauses:
    """The pauses that have not ended, as the record has them."""
    await parts.open()
    return (await parts.store.pauses.read()).at(parts.store.now())


@answers.to(PAUSES)
async def pauses(parts: Parts, asked: PausesRequest) -> tuple[Pause, ...]:
    """Each with the number of waiting jobs that it holds, as far as they can be counted quickly."""
    found = (await in_force(parts)).pauses
    if not asked.counted:
        return found
    return tuple([msgspec.structs.replace(one, waiting=await parts.store.pauses.waiting(one)) for one in found])


@answers.to(PAUSE)
async def pause(parts: Parts, asked: PauseRequest) -> Pause:
    """Begin a pause, or change the end and the reason of one. Raises InvalidPause, which names the field."""
    check_target(asked)
    await parts.open()
    await parts.store.clock_of_now()
    now = parts.store.now()
    until = check_until(asked.until, now)
    wanted = Pause(
        id=_id(asked),
        lane=cast("Priority | None", asked.lane),
        task=asked.task,
        where=asked.where,
        defaults=await _defaults(parts, asked),
        until=until,
        reason=asked.reason,
        paused_at=now,
    )
    there = (await in_force(parts)).pauses
    if len(there) >= MAX_PAUSES and all(one.id != wanted.id for one in there):
        raise InvalidPause("task", f"is one too many: {MAX_PAUSES} pauses are in force; end some of them first")
    changed = await begin(parts.broker, parts.store, wanted)
    return next(one for one in changed.pauses if one.id == wanted.id)


@answers.to(RESUME)
async def resume(parts: Parts, asked: PauseTarget) -> Pause:
    """End a pause. Raises NotPaused, which says what is paused."""
    check_target(asked)
    there = (await in_force(parts)).pauses
    wanted = _id(asked)
    found = next((one for one in there if one.id == wanted), None)
    if found is None:
        raise NotPaused(name_of(cast("Priority | None", asked.lane), asked.task, asked.where), [str(p) for p in there])
    await end(parts.broker, parts.store, wanted)
    return found


def _id(asked: PauseTarget) -> str:
    return id_of(cast("Priority | None", asked.lane), asked.task, asked.where)


async def _defaults(parts: Parts, asked: PauseRequest) -> dict[str, Any]:
    """The defaults of the task's parameters that are compared. Raises InvalidPause for an unknown task."""
    if asked.task is None:
        return {}
    schema = await _schema(parts, asked.task, allow_unknown=asked.allow_unknown)
    allow = asked.allow_unknown or schema is None
    found = defaults_of(asked.task, asked.where, schema or {}, allow_unknown=allow)
    if not allow:
        with refused("where"):
            check_fits(asked.task, asked.where, schema or {})
    return found


async def _schema(parts: Parts, name: str, *, allow_unknown: bool) -> Mapping[str, Any] | None:
    task = parts.registry.find(name)
    if task is not None:
        return task.schema
    published = {info.name: info.schema for info in await parts.store.catalogue.all()}
    if name not in published and not allow_unknown:
        near = nearest(name, published)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise InvalidPause(
            "task",
            f"is {name[:60]!r}, which no worker has published{hint} "
            "(to pause it all the same: allow_unknown=True, --allow-unknown)",
        )
    return published.get(name)
