"""Output: tables and colours on a terminal, plain aligned text elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from dtqkit.model.jobs import Job, job_json
from dtqkit.support.sanitize import escaped, escaped_json, escaped_line

#: Styles of a terminal; plain text goes without.
STYLES: Final[dict[str, str]] = {
    "pending": "cyan",
    "scheduled": "blue",
    "running": "yellow",
    "completed": "green",
    "failed": "bold red",
    "cancelled": "magenta",
    "paused": "magenta",
}
#: Space between two columns of a terminal's table, and the least that its last column should have.
_GAP: Final = 2
_LAST: Final = 10


def on_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def say(text: str, *, error: bool = False) -> None:
    """Print text that may come from a job: on a terminal with control characters escaped, into a pipe unchanged."""
    stream = sys.stderr if error else sys.stdout
    print(escaped(text) if stream.isatty() else text, file=stream, flush=True)


def as_json(value: Any) -> None:
    """One JSON document on one line, without control characters on a terminal."""
    text = msgspec.json.encode(value).decode()
    sys.stdout.write((escaped_json(text) if on_terminal() else text) + "\n")
    sys.stdout.flush()


def job_record(job: Job) -> dict[str, Any]:
    """The JSON form of a job, also with the fields that have no value, and all its attempts in one list."""
    fields = {**dict.fromkeys(Job.__struct_encode_fields__), **job_json(job)}
    del fields["earlier"]
    fields["error"] = msgspec.structs.asdict(job.error) if job.error else None
    fields["attempts"] = [{**msgspec.structs.asdict(a), "wait_s": a.wait_s, "run_s": a.run_s} for a in job.attempts]
    return fields


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    title: str = "",
    right: Sequence[str] = (),
    spare: Sequence[str] = (),
) -> None:
    """A table; columns named in `right` are aligned to the right.

    Where a terminal is too narrow, the last column is cut, and those in `spare` are left out, the first one first.
    """
    if on_terminal():
        safe = [[escaped_line(cell) for cell in row] for row in rows]
        _rich_table(columns, safe, escaped_line(title), right, spare)
    else:
        _plain_table(columns, rows, title, right)


def _rich_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], title: str, right: Sequence[str], spare: Sequence[str]
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    widths = [max(len(line[i]) for line in (columns, *rows)) for i in range(len(columns))]
    shown = [*range(len(columns))]

    def left_for_last() -> int:
        return console.width - 2 - sum(widths[i] + _GAP for i in shown[:-1])

    for column in spare:
        if left_for_last() < min(widths[-1], _LAST):
            shown.remove(columns.index(column))
    drawn = Table(
        title=title or None,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, _GAP - 1, 0, 0),  # the box adds one
    )
    for i in shown:
        last = i == shown[-1]
        drawn.add_column(
            columns[i],
            justify="right" if columns[i] in right else "left",
            no_wrap=True,
            min_width=None if last else widths[i],
            max_width=max(1, left_for_last()) if last else None,
            overflow="ellipsis",
        )
    for row in rows:
        drawn.add_row(*(Text(row[i], style=STYLES.get(row[i], "")) for i in shown))
    console.print(drawn)


def _plain_table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str, right: Sequence[str]) -> None:
    lines = [list(columns), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    if title:
        print(title)
    for line in lines:
        cells = (
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, cell, width in zip(columns, line, widths, strict=True)
        )
        print("  ".join(cells).rstrip())
    if title:
        print()


def clock(when: datetime | None) -> str:
    """Local time; the date only when it is not today."""
    if when is None:
        return ""
    try:
        local = when.astimezone()
    except OverflowError:  # at the end of the year 9999, or at the begin of year 1
        local = when
    today = local.date() == datetime.now().astimezone().date()
    return local.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S")


def first_line(text: str, limit: int = 200) -> str:
    """The first line of `text`, cut at `limit` characters."""
    line = text.strip().partition("\n")[0]
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
