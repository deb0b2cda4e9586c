"""The examples of docs/testing.md run as they stand, with the plugin, and with xdist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
BLOCKS: Final = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "testing.md").read_text(), flags=re.DOTALL)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """pytest in a process of its own, with warnings as errors. It names the plugin: dtqkit may not be installed."""
    chosen = ["-p", "pytest_dtqkit", "-p", "no:valkey", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", *chosen]
    environ = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environ |= {"REDIS_URL": "redis://127.0.0.1:9/0", "ATLAS_URI": "mongodb://127.0.0.1:9"}  # nothing may go there
    environ.pop("PYTEST_ADDOPTS", None)
    return subprocess.run(
        [*command, *arguments], cwd=folder, env=environ, capture_output=True, text=True, timeout=110, check=False
    )


@pytest.mark.timeout(240)
def test_the_examples_of_the_page_run(tmp_path: Path) -> None:
    shop, *tests = BLOCKS
    (tmp_path / "shop.py").write_text(shop)
    (tmp_path / "conftest.py").write_text(
        "import pytest, shop\n\n@pytest.fixture(autouse=True)\ndef outbox():\n    shop.outbox.clear()\n"
    )
    for number, text in enumerate(tests):
        (tmp_path / f"test_{number}.py").write_text(text)
    done = run(tmp_path, "-p", "xdist", "-n", "2", "--dist", "loadfile")
    assert "8 passed" in done.stdout, done.stdout + done.stderr


def test_the_plugin_imports_nothing_of_dtqkit_before_a_test_asks_for_it(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(
        "import sys\n\ndef test_nothing():\n    assert not any(name.startswith('dtqkit') for name in sys.modules)\n"
    )
    done = run(tmp_path)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    listed = run(tmp_path, "--fixtures").stdout
    assert "A TestQueue: in memory, under a virtual clock." in listed
    assert "A queue on real stores" in listed


def test_the_plugin_is_declared_and_is_in_the_wheel() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["pytest11"] == {"pytest_dtqkit": "pytest_dtqkit"}
    assert (ROOT / "pytest_dtqkit.py").is_file()
    assert "pytest_dtqkit.py" in project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]


GENERATED: Final = """
import pytest
import shop

@pytest.mark.parametrize("n", range({count}))
def test_a_welcome_is_sent_within_days(dtq, n):
    dtq.replace(shop.queue)
    shop.sign_up(f"customer {{n}}")
    dtq.advance(days=5)
    (job,) = dtq.submitted(shop.welcome)
    assert job.result() == f"hello customer {{n}}"
    assert len(job.record.attempts) == 3
"""


@pytest.mark.timeout(240)
def test_many_tests_with_retries_of_days_take_seconds(tmp_path: Path) -> None:
    """Prints how long 1,000 take; a fifth of them is run here."""
    count = 200
    (tmp_path / "shop.py").write_text(BLOCKS[0])
    (tmp_path / "test_generated.py").write_text(GENERATED.format(count=count))
    done = run(tmp_path)
    assert f"{count} passed" in done.stdout, done.stdout + done.stderr
    took = re.search(rf"{count} passed in ([\d.]+)s", done.stdout)
    assert took is not None
    print(f"{count} tests with two retries over days: {took[1]} s, {float(took[1]) / count * 1000:.1f} ms each")
