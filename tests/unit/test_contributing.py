"""CONTRIBUTING.md names every module, and what it points to is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
TEXT: Final = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def named() -> dict[str, list[str]]:
    """The modules of each folder, as the table of floors has them."""
    rows = re.findall(r"^\| \d \| `([^`]+)` \| [^|]+ \| `([^`]+)` \|$", TEXT, re.MULTILINE)
    assert len({folder for folder, _ in rows}) == len(rows)
    return {folder: modules.split() for folder, modules in rows}


def present() -> dict[str, list[str]]:
    """The modules of each folder in the tree: Python by its name, JavaScript, TypeScript and Lua with the ending."""
    found: dict[str, list[str]] = {}
    package = ROOT / "dtqkit"
    for path in sorted(package.rglob("*")):
        folder = path.parent.relative_to(package).as_posix()
        if path.suffix == ".py" and path.stem != "__init__":
            found.setdefault(folder, []).append(path.stem)
        elif path.suffix in {".js", ".ts", ".lua"}:
            found.setdefault(folder, []).append(path.name)
    return found


def test_the_table_of_floors_names_every_module_and_no_other() -> None:
    table, tree = named(), present()
    wrong = {
        folder: {"missing": sorted(have - listed), "not there": sorted(listed - have)}
        for folder in table | tree
        if (listed := set(table.get(folder, ()))) != (have := set(tree.get(folder, ())))
    }
    assert wrong == {}, "correct the table in CONTRIBUTING.md"
    assert [folder for folder, modules in table.items() if modules != sorted(modules)] == []


def test_a_folder_of_tests_that_is_named_is_there_and_each_that_is_there_is_named() -> None:
    _, _, section = TEXT.partition("## How to test it")
    listed = set(re.findall(r"^\| `(\w+)/` \|", section, re.MULTILINE))
    assert listed == {path.parent.name for path in (ROOT / "tests").glob("*/*.py")}


def test_what_contributing_points_to_is_there() -> None:
    links = {link for link in re.findall(r"\]\(([^)#]+)\)", TEXT) if "://" not in link}
    files = {
        f"tests/{name}" if name.startswith("unit/") else name
        for name in re.findall(r"`((?:tests|unit)/[\w/]+\.py)`", TEXT)
    }
    assert [path for path in sorted(links | files) if not (ROOT / path).is_file()] == []


def test_the_index_of_the_internals_names_every_page() -> None:
    folder = ROOT / "docs" / "internals"
    linked = set(re.findall(r"^\| \[([\w-]+\.md)\]\(\1\)", (folder / "README.md").read_text(), re.MULTILINE))
    present = {path.name for path in folder.glob("*.md")} - {"README.md"}
    assert linked == present
