"""Cut a stream of text into the lines of a job's log."""

from __future__ import annotations

import codecs
import contextlib
import os
from typing import Final

from dtqkit.support.sanitize import escaped

#: Characters of a line without an end that are held back before they become one.
MAX_HELD: Final = 4000

#: In the output of a child, a line of its job's log is between these: it may come in the middle of a printed line.
LOG_START: Final = "\x1e\x02"
LOG_END: Final = "\x03\n"
#: Longest line of a log with its marks, in characters; a start that has no end within them is no start.
_MAX_MARKED: Final = 10_000


class Cutter:
    """Gives the lines of what it is fed. A carriage return starts its line again, as on a terminal."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = ""

    def feed(self, text: str) -> list[str]:
        """The lines that `text` ends."""
        if "\n" in text:
            *lines, self._rest = (self._rest + text).split("\n")
            lines = [_shown(line) for line in lines]
        else:
            lines = []
            self._rest += text
        if len(self._rest) > MAX_HELD:
            self._rest = _shown(self._rest)
            if len(self._rest) > MAX_HELD:
                lines.append(self._rest)
                self._rest = ""
        return lines

    def finish(self) -> list[str]:
        """What is left, which has no end."""
        rest, self._rest = _shown(self._rest), ""
        return [rest] if rest else []


def _shown(line: str) -> str:
    """What a terminal shows of a line that a progress bar has written again and again."""
    return line if "\r" not in line else line.rstrip("\r").rpartition("\r")[2]


class Output:
    """The same for the bytes that a child writes, in which lines of its job's log are marked."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._cutter = Cutter()
        self._held = ""

    def feed(self, data: bytes) -> list[str]:
        text = self._held + self._decode(data)
        self._held = ""
        lines: list[str] = []
        while (start := text.find(LOG_START)) >= 0:
            lines += self._cutter.feed(text[:start])
            end = text.find(LOG_END, start)
            if end >= 0:
                lines.append(text[start + len(LOG_START) : end])
                text = text[end + len(LOG_END) :]
            elif len(text) - start < _MAX_MARKED:
                self._held = text[start:]
                return lines
            else:
                text = text[start + len(LOG_START) :]
        if text.endswith(LOG_START[0]):
            text, self._held = text[:-1], text[-1]
        return lines + self._cutter.feed(text)

    def finish(self) -> list[str]:
        """What is left at the end of a job."""
        lines = self._cutter.feed(self._held) + self._cutter.finish()
        self._held = ""
        return lines


def marked(line: str) -> bytes:
    """A line of the log with its marks, for a child's output."""
    text = line.replace(LOG_START, "").replace(LOG_END, "")
    return f"{LOG_START}{text}{LOG_END}".encode("utf-8", "replace")


def to_stderr(lines: list[str]) -> None:
    """Write them where the worker's own log goes."""
    if lines:
        with contextlib.suppress(OSError):
            os.write(2, "".join(f"{escaped(line)}\n" for line in lines).encode("utf-8", "replace"))
