"""What everybody may know of a store that is away: not its address."""

from __future__ import annotations

from typing import Final

from dtqkit.model.errors import OutcomeUnknown, Reason, StoreUnavailable

_WHY: Final[dict[Reason, str]] = {
    "away": "does not answer",
    "electing": "is electing a primary: safe to try again in some seconds",
    "refused": "refuses for now",
    "not_allowed": "does not allow this to the server's user",
    "misconfigured": "is not set up as it must be",
    "unsupported": "is too old",
}


def public_sentence(error: StoreUnavailable) -> str:
    """Which store, and why, without its address."""
    known = "; its outcome is not known" if isinstance(error, OutcomeUnknown) else ""
    return f"{error.store} {_WHY[error.reason]}{known}"
