"""The option `--where NAME=VALUE` of commands that pause or change the jobs of certain payloads."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from dtqkit.model.where import Scalar

Where = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="Only jobs with this value of a parameter (JSON, else a text); may be given several times.",
    ),
]


def where_of(where: list[str] | None) -> dict[str, Scalar] | None:
    """`customer=7` as a number, `city="7"` and `city=Berlin` as texts."""
    if not where:
        return None
    found: dict[str, Any] = {}
    for text in where:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"--where is {text!r}; it is NAME=VALUE, such as customer=7")
        try:
            found[name] = msgspec.json.decode(value)
        except msgspec.DecodeError:
            found[name] = value
    return found
