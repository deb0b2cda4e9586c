"""docs/internals/add-a-command.md: the command on the page is added to a copy of the package, and runs."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Final

import pytest

from dtqkit import Settings
from tests.command import ROOT, CompletedProcess, dtqkit_alone

PAGE: Final = (ROOT / "docs" / "internals" / "add-a-command.md").read_text(encoding="utf-8")


@pytest.fixture
def with_lanes(tmp_path: Path) -> Path:
    """A directory in which `python -m dtqkit` has the command of the page."""
    shutil.copytree(ROOT / "dtqkit", tmp_path / "dtqkit", ignore=shutil.ignore_patterns("__pycache__"))
    module, listed = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "dtqkit" / "cli" / "lanes.py").write_text(module, encoding="utf-8")
    roof = tmp_path / "dtqkit" / "cli" / "__init__.py"
    text = roof.read_text(encoding="utf-8")
    before = listed.replace('    "lanes": "lanes",\n', "")
    assert before != listed
    assert text.count(before) == 1, f"the page and cli/__init__.py differ: {before}"
    roof.write_text(text.replace(before, listed), encoding="utf-8")
    return tmp_path


def test_the_command_of_the_page_prints_what_the_page_shows(with_lanes: Path, settings: Settings) -> None:
    def run(*arguments: str) -> CompletedProcess:
        done = dtqkit_alone("lanes", *arguments, settings=settings, cwd=with_lanes)
        assert done.returncode == 0, done.stderr
        return done

    shown = PAGE.partition("$ dtqkit lanes\n")[2]
    assert run().stdout.splitlines() == [line.strip() for line in shown.splitlines()]
    assert json.loads(run("--json").stdout) == {"high": 0, "medium": 0, "low": 0}
    assert json.loads(run("--priority", "high", "--json").stdout) == {"high": 0}


def test_the_command_of_the_page_is_in_the_help(with_lanes: Path) -> None:
    assert "Show how many jobs wait in each lane." in dtqkit_alone("--help", cwd=with_lanes).stdout
