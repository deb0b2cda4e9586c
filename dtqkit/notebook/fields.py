"""Fields of a form: a widget for each argument, made from its JSON Schema, and what was typed as a JSON value."""
# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false, reportUnknownVariableType=false
# (ipywidgets and anywidget leave most of their types open)

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, Final

from ipywidgets import (
    HTML,
    BoundedFloatText,
    BoundedIntText,
    Checkbox,
    DatePicker,
    Dropdown,
    FloatText,
    HBox,
    IntText,
    Layout,
    Text,
    Textarea,
    VBox,
    Widget,
)

from dtqkit.notebook.board_rpc import MAX_EXACT
from dtqkit.notebook.html import el, plain

Schema = Mapping[str, Any]

#: Stands for an argument that is left out, so that the function's own default counts.
LEFT_OUT: Final = object()
_WIDTH: Final = Layout(width="22em")
_LABEL: Final = Layout(width="10em")


class Field:
    """One argument."""

    def __init__(self, name: str, schema: Schema, required: bool) -> None:
        self.name = name
        self.required = required
        self._default: Any = schema.get("default", LEFT_OUT)
        self.input, self._read = _input(schema, self._default, required)
        label = el("b" if required else "span", name, title="must be given" if required else "may be left out")
        self.complaint = HTML()
        hint = HTML(plain(el("small", _hint(schema), style="opacity:.7")))
        self.box = VBox([HBox([HTML(plain(label), layout=_LABEL), self.input, hint]), self.complaint])

    def read(self) -> Any:
        """The JSON value, or LEFT_OUT. Raises ValueError with what is wrong."""
        value = self._read()
        if value is LEFT_OUT:
            if self.required:
                raise ValueError("this argument must be given")
            return value
        return LEFT_OUT if value == self._default and type(value) is type(self._default) else value

    def complain(self, text: str) -> None:
        """Show what is wrong with it, at the field; an empty text takes that away."""
        self.complaint.value = plain(el("span", text, style="color:#d4351c", role="alert")) if text else ""


def _input(schema: Schema, default: Any, required: bool) -> tuple[Widget, Callable[[], Any]]:
    """The widget for a schema, and what reads it."""
    given = None if default is LEFT_OUT else default
    if "enum" in schema:
        options = list(schema["enum"]) if required or given is not None else [("", LEFT_OUT), *schema["enum"]]
        choice = Dropdown(options=options, value=given if given is not None else options[0], layout=_WIDTH)
        return choice, lambda: choice.value
    kind = schema.get("type")
    if kind == "boolean":
        tick = Checkbox(value=bool(given), indent=False, layout=_WIDTH)
        return tick, lambda: tick.value
    if kind in ("integer", "number") and given is None and not required:
        return _json(given)
    if kind == "integer":
        return _number(IntText, BoundedIntText, schema, given or 0)
    if kind == "number":
        return _number(FloatText, BoundedFloatText, schema, given or 0.0)
    if kind == "string" and schema.get("format") == "date":
        day = DatePicker(value=date.fromisoformat(given) if given else None, layout=_WIDTH)
        return day, lambda: day.value.isoformat() if day.value else LEFT_OUT
    if kind == "string":
        return _text(given, required)
    return _json(given)


def _number(free: Any, bounded: Any, schema: Schema, value: float) -> tuple[Widget, Callable[[], Any]]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        field = bounded(value=max(low, min(high, value)), min=low, max=high, layout=_WIDTH)
    else:
        field = free(value=value, layout=_WIDTH)

    def read() -> Any:
        if isinstance(field.value, int) and abs(field.value) > MAX_EXACT:
            raise ValueError(f"a browser rounds integers beyond {MAX_EXACT:,}: submit this job in code")
        return field.value

    return field, read


def _text(given: str | None, required: bool) -> tuple[Widget, Callable[[], Any]]:
    line = Text(value=given or "", layout=_WIDTH)
    return line, lambda: line.value if line.value or required or given is not None else LEFT_OUT


def _json(given: Any) -> tuple[Widget, Callable[[], Any]]:
    """Anything else is typed as JSON: lists, objects, unions."""
    typed = given if given is None else json.dumps(given, ensure_ascii=False)
    area = Textarea(value=typed or "", placeholder="JSON", rows=2, layout=_WIDTH)

    def read() -> Any:
        if not area.value.strip():
            return LEFT_OUT
        try:
            return json.loads(area.value)
        except json.JSONDecodeError as error:
            raise ValueError(f"this is not JSON: {error}") from None

    return area, read


def _hint(schema: Schema) -> str:
    """The kind of value, in few words."""
    if "enum" in schema:
        return ""
    kinds = [str(s.get("format") or s.get("type", "JSON")) for s in schema.get("anyOf", (schema,))]
    words = " or ".join(kinds)
    if "items" in schema:
        words += f" of {schema['items'].get('type', 'JSON')}"
    bounds = [f"{word} {schema[key]}" for key, word in (("minimum", "≥"), ("maximum", "≤")) if key in schema]
    return ", ".join([words, *bounds])
