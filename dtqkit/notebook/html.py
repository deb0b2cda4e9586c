"""HTML that is escaped by construction: what is not `Markup` is text."""

from __future__ import annotations

from functools import cache
from html import escape
from pathlib import Path
from typing import Final

from dtqkit.support.markup import NOT_MATH

_VOID: Final = frozenset({"br", "hr"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value: object) -> Markup:
    """`value` as it reads, escaped; what UTF-8 cannot say is replaced, so that it can be sent and saved."""
    if isinstance(value, Markup):
        return value
    return Markup(escape(str(value).encode("utf-8", "replace").decode("utf-8")))


def el(name: str, *children: object, **attributes: object) -> Markup:
    """An element; `class_` is the attribute class, and one whose value is None is left out."""
    given = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    shown = "".join(f' {key}="{text(value)}"' for key, value in given.items())
    if name in _VOID:
        return Markup(f"<{name}{shown}>")
    return Markup(f"<{name}{shown}>{''.join(map(text, children))}</{name}>")


def plain(*children: object) -> Markup:
    """Text for a widget: a `$` in it is a dollar."""
    return el("span", *children, class_=NOT_MATH)


def card(*children: object, label: str) -> Markup:
    """What a cell shows: styled, and readable where styles are taken away."""
    return el("div", el("style", style()), *children, class_=f"dtq {NOT_MATH}", role="group", aria_label=label)


@cache
def style() -> Markup:
    """The style sheet of all cards, on one line."""
    sheet = Path(__file__).with_name("card.css").read_text(encoding="utf-8")
    return Markup(" ".join(sheet.split()))
