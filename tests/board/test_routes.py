"""The routes of a page's board are rows of the table of operations, as it has them."""

from __future__ import annotations

import re
from typing import Final

from dtqkit.control import OPERATIONS
from dtqkit.dashboard import BOARD

MODULE: Final = "routes.js"
#: Of every operation that a page can ask for, the line that the module has for it.
LINES: Final = {one.name: f'  {one.name}: ["{one.method}", "{one.path}"],' for one in OPERATIONS if one.streams is None}


def listed() -> list[str]:
    """The lines of the module's table, whatever they are."""
    _, _, rest = (BOARD / MODULE).read_text().partition("export const ROUTES = {\n")
    return rest.partition("\n};\n")[0].splitlines()


def wrong(lines: list[str]) -> list[str]:
    """What to write instead of the lines that are not those of the table of operations."""
    named = [(line, line.partition(":")[0].strip()) for line in lines]
    return [
        f"{line.strip()} -> {LINES.get(name, 'no operation has this name').strip()}"
        for line, name in named
        if line != LINES.get(name)
    ]


def asked() -> set[str]:
    """The operations that modules ask for by a literal name; a notebook's board also asks for its snapshot."""
    modules = [path for path in BOARD.glob("*.js") if path.name not in (MODULE, "source.js")]
    return {name for path in modules for name in re.findall(r'\b(?:request|act)\("(\w+)"', path.read_text())}


def test_each_route_is_that_of_the_table_of_operations() -> None:
    assert len(listed()) > 15
    assert wrong(listed()) == []


def test_a_route_that_is_not_in_the_table_is_named_with_what_to_write() -> None:
    lines = ['  update: ["POST", "/jobs/{id}"],', '  lane: ["GET", "/lanes/{lane}"],', "  ...more,"]
    assert wrong(lines) == [
        'update: ["POST", "/jobs/{id}"], -> update: ["PATCH", "/jobs/{id}"],',
        'lane: ["GET", "/lanes/{lane}"], -> no operation has this name',
        "...more, -> no operation has this name",
    ]


def test_each_operation_that_the_board_asks_for_has_one_route_and_each_route_is_asked_for() -> None:
    routes = [line.partition(":")[0].strip() for line in listed()]
    assert len(set(routes)) == len(routes)
    text = "\n".join(path.read_text() for path in BOARD.glob("*.js") if path.name != MODULE)
    assert [LINES.get(name, f"no operation {name}") for name in sorted(asked() - set(routes))] == [], "add this"
    assert [name for name in routes if f'"{name}"' not in text] == []
