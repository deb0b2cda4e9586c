"""Small static tables for notebooks. All text is escaped."""

from collections.abc import Iterable, Sequence
from html import escape

from dtqkit.support.markup import NOT_MATH


def table_html(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "", notes: Iterable[str] = ()
) -> str:
    """A table with `notes` as a list below it. Colours are the page's own, so it works on light and on dark."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    caption = f"<b>{escape(title)}</b>" if title else ""
    below = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return (
        f'<div class="{NOT_MATH}">{caption}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        + (f"<ul>{below}</ul>" if below else "")
        + "</div>"
    )
