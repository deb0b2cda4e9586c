"""The examples of docs/unique-jobs.md run as they stand."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

from dtqkit import Settings
from dtqkit.run.supervisor import environment_of

PAGE = Path(__file__).parents[2] / "docs" / "unique-jobs.md"


def test_the_examples_of_the_page_about_unique_jobs_run(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(blocks) >= 7
    (tmp_path / "shop_of_the_page.py").write_text("\n".join(blocks))
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        importlib.import_module("shop_of_the_page").queue.close()
    finally:
        sys.modules.pop("shop_of_the_page", None)
