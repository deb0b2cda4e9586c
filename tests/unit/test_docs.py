"""The tests that the documentation names exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_row_of_what_happens_when_names_a_test_that_is_there() -> None:
    rows = [
        line
        for line in (ROOT / "docs" / "what-happens-when.md").read_text().splitlines()
        if line.startswith("| ") and not line.startswith("| situation")
    ]
    named = [re.findall(r"`(test_\w+)`", row) for row in rows]
    assert len(rows) > 40
    assert [row for row, tests in zip(rows, named, strict=True) if not tests] == []
    written = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)\(", file.read_text(), re.MULTILINE)
    }
    assert {test for tests in named for test in tests} - written == set()
