"""What the documentation names exists: tests, pages, headings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "tests" / "model" / "README.md"]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def broken(page: Path, target: str) -> bool:
    """Whether a link leads nowhere. Those to other sites are not followed."""
    name, _, anchor = target.partition("#")
    if re.match(r"(https?|mailto):", name):
        return False
    file = page.parent / name if name else page
    return not file.exists() or (bool(anchor) and anchor not in anchors(file))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_link_leads_to_a_page_and_a_heading_that_are_there(page: Path) -> None:
    text = BLOCK.sub("", page.read_text())
    assert [target for target in LINK.findall(text) if broken(page, target)] == []
    assert "```" not in text, "a code block is not closed"


def test_a_link_to_nowhere_is_found() -> None:
    readme = ROOT / "README.md"
    assert not broken(readme, "#hooks")
    assert not broken(readme, "docs/internals/README.md")
    assert broken(readme, "#no-such-heading")
    assert broken(readme, "docs/none.md")
    assert broken(readme, "CONTRIBUTING.md#hooks-of-none")


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
