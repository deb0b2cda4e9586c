"""What is wrong with a pause."""

from __future__ import annotations

from collections.abc import Sequence

from dtqkit.model.errors import DtqError


class InvalidPause(DtqError, ValueError):
    """A pause that cannot be, or that no job could match; `field` is the argument that is wrong."""

    code = "invalid_pause"
    field: str = ""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field} {detail}")
        self.field = field


class NotPaused(DtqError, LookupError):
    """There is no such pause to resume; says which there are."""

    code = "not_paused"

    def __init__(self, what: str, there: Sequence[str]) -> None:
        others = f"paused {'is' if len(there) == 1 else 'are'} {', '.join(there)}" if there else "nothing is paused"
        super().__init__(f"{what} is not paused; {others}")
