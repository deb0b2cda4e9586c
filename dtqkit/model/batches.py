"""Errors of a bulk submit of which only a part was accepted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dtqkit.model.errors import DtqError, OutcomeUnknown, StoreUnavailable, unpickled


class BatchRefused(DtqError):
    """Some jobs of a bulk were refused; the others were accepted and run."""

    code = "batch_refused"

    def __init__(self, accepted: Sequence[Any], refused: Sequence[tuple[int, DtqError]]) -> None:
        index, why = refused[0]
        others = f"the other {len(accepted):,} are accepted" if accepted else "none is accepted"
        DtqError.__init__(
            self,
            f"{len(refused):,} of {len(refused) + len(accepted):,} jobs were refused ({others}); number {index}: {why}",
        )
        #: Handles of the accepted ones, in the order of submission: a JobList, or what an AsyncTaskQueue gives.
        self.accepted: Any = accepted
        #: Of the others: the place in what was submitted, and why.
        self.refused: tuple[tuple[int, DtqError], ...] = tuple(refused)

    def __reduce__(self) -> tuple[Any, ...]:
        # A handle works only with its queue, in this process.
        accepted = tuple(getattr(handle, "id", handle) for handle in self.accepted)
        return unpickled, (type(self), self.args, {**vars(self), "accepted": accepted})


class BatchUnavailable(BatchRefused, StoreUnavailable):
    """Some jobs of a bulk were refused, since a store is unreachable: submit the refused ones again."""

    code = "batch_unavailable"

    def __init__(self, accepted: Sequence[Any], refused: Sequence[tuple[int, DtqError]]) -> None:
        BatchRefused.__init__(self, accepted, refused)
        away = next(error for _, error in refused if isinstance(error, StoreUnavailable))
        self.store, self.reason, self.brief = away.store, away.reason, away.brief


class BatchOutcomeUnknown(BatchUnavailable, OutcomeUnknown):
    """Some jobs of a bulk may or may not have been accepted: safe to repeat with an idempotency key."""

    code = "batch_outcome_unknown"


def batch_refused(accepted: Sequence[Any], refused: Sequence[tuple[int, DtqError]]) -> BatchRefused:
    """The subclass of BatchRefused that fits the reasons."""
    if any(isinstance(error, OutcomeUnknown) for _, error in refused):
        return BatchOutcomeUnknown(accepted, refused)
    if any(isinstance(error, StoreUnavailable) for _, error in refused):
        return BatchUnavailable(accepted, refused)
    return BatchRefused(accepted, refused)
