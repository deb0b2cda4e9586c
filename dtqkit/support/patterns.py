"""How long a text may be for a pattern of a task's schema to be tried on it: Python's engine backtracks.

A server applies patterns from the task's author to text from the submitter: `^(a+)+$` takes years on 40 characters.
Longer text is left to the worker, where a job's time is bounded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, Final, cast

#: By the power of its length that a match may take: so long that it stays below some milliseconds.
_LONGEST: Final = (math.inf, math.inf, 500.0, 60.0, 25.0)
#: Where it may take two to the power of its length.
_LONGEST_OF_NESTED: Final = 14.0

#: The parts of a pattern that matter: what is escaped, a class, a group's ends, a repeat with what makes it lazy, a
#: choice.
_PART: Final = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\((?:\?[a-zA-Z:=!<>#]+)?|\)|(?:[*+?]|\{\d*,?\d*\})[?+]?|\||.", re.DOTALL
)
#: Parts that may be left out, in one pattern: each may double the ways.
_OPTIONAL: Final = 8


def longest_for(pattern: str) -> float:
    """Characters of the longest text on which `pattern` is quickly tried."""
    anchored = pattern.startswith(("^", r"\A"))
    repeats = optional = 0
    #: Of each open group: whether it matches in more than one way.
    open_groups: list[bool] = []
    closed = False  # the last part was the end of such a group
    for part in _PART.findall(pattern):
        was_closed, closed = closed, False
        if part[0] == "(":
            if "=" in part or "!" in part or "<" in part:
                return _LONGEST_OF_NESTED
            open_groups.append(False)
            continue
        if part == ")":
            closed = bool(open_groups) and open_groups.pop()
            varies = closed
        elif part == "|":
            varies = True
            anchored = anchored and bool(open_groups)
        else:
            varies = _varies(part)
            if was_closed and part[0] == "{" and _is_repeat(part):
                return 0.0  # of a group that may be empty, the length of the text is no bound
            if (was_closed and _is_repeat(part)) or (part[0] == "\\" and part[1:].isdigit()):
                return _LONGEST_OF_NESTED  # one inside the other, or it refers to a group
            repeats += varies and part[0] != "?"
            optional += part[0] == "?"
        if varies and open_groups:
            open_groups[-1] = True
    if optional > _OPTIONAL:
        return _LONGEST_OF_NESTED
    return _LONGEST[min(repeats + (not anchored), len(_LONGEST) - 1)]


def _is_repeat(part: str) -> bool:
    return part[0] in "*+" or (part[0] == "{" and len(part) > 1)


def _varies(part: str) -> bool:
    """Whether it is a repeat that takes more or less."""
    least, comma, most = part.strip("{}?+").partition(",") if part[0] == "{" else ("", "", "")
    return part[0] in "*+?" or (bool(comma) and least != most)


def patterns_in(schema: Any) -> Iterator[str]:
    """Every pattern of a JSON Schema."""
    if isinstance(schema, dict):
        for key, value in cast("dict[str, Any]", schema).items():
            if key == "pattern" and isinstance(value, str):
                yield value
            else:
                yield from patterns_in(value)
    elif isinstance(schema, list):
        for item in cast("list[Any]", schema):
            yield from patterns_in(item)


def without_patterns(schema: Any) -> Any:
    """The same schema, which takes any text where a pattern stands."""
    if isinstance(schema, dict):
        known = cast("dict[str, Any]", schema)
        return {
            key: without_patterns(value)
            for key, value in known.items()
            if key != "pattern" or not isinstance(value, str)
        }
    return [without_patterns(item) for item in cast("list[Any]", schema)] if isinstance(schema, list) else schema


def longest_text(value: object) -> int:
    """Characters of the longest text in a JSON value, keys too."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        known = cast("dict[str, object]", value)
        return max((max(len(key), longest_text(item)) for key, item in known.items()), default=0)
    return max(map(longest_text, cast("list[object]", value)), default=0) if isinstance(value, list) else 0
