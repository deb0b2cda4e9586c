"""The progress and the log of a running job, bounded."""

from __future__ import annotations

from typing import Any, Final

#: Lines and characters of a job's log that are kept, the last ones.
MAX_LINES: Final = 500
MAX_CHARACTERS: Final = 64_000


class AttemptLog:
    """Progress and log of one attempt. Reports may come from any thread."""

    __slots__ = ("_characters", "_dropped", "dirty", "fraction", "lines", "message")

    def __init__(self) -> None:
        self.fraction: float | None = None
        self.message = ""
        self.lines: list[str] = []  # a deque would cost every job its first block
        self._characters = 0
        self._dropped = 0
        #: Whether there is anything that was not shown live yet.
        self.dirty = False

    def report(self, fraction: float | None, text: str) -> None:
        """Progress with a message, or (None) a line of the log."""
        if fraction is not None:
            self.fraction, self.message = fraction, text
        else:
            self.lines.append(text)
            self._characters += len(text)
            while len(self.lines) > MAX_LINES or self._characters > MAX_CHARACTERS:
                self._characters -= len(self.lines.pop(0))
                self._dropped += 1
        self.dirty = True

    def log(self) -> list[str]:
        """The kept lines; the first says how many were cut, if any were."""
        lines = list(self.lines)
        return [f"… {self._dropped} earlier lines were not kept", *lines] if self._dropped else lines

    def document(self) -> dict[str, Any] | None:
        """What the record keeps of it; None when there is nothing."""
        if self.fraction is None and not self.lines:
            return None
        kept: dict[str, Any] = {}
        if self.fraction is not None:
            kept |= {"progress": self.fraction, "progress_message": self.message}
        if self.lines:
            kept["log"] = self.log()
        return kept
