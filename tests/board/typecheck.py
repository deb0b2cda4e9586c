"""Check the types of the board's modules with TypeScript: python -m tests.board.typecheck (part of make lint).

TypeScript is installed into the virtual environment, once, with npm. Where npm or its registry is missing, this is said
and nothing is checked; DTQ_REQUIRE=typescript makes it an error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.node import find_node

ROOT = Path(__file__).parents[2]
#: One package without dependencies, in JavaScript. A later major version is another program.
VERSION = "5.9.3"
FOLDER = Path(sys.prefix) / f"typescript-{VERSION}"
COMPILER = FOLDER / "node_modules" / "typescript" / "bin" / "tsc"


def npm(node: str) -> list[str] | None:
    """The command: npm of the node that was found, or that of PATH."""
    script = Path(node).parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if script.exists():
        return [node, str(script)]
    found = shutil.which("npm")
    return [found] if found else None


def install(node: str) -> str:
    """Why TypeScript could not be installed; empty when it is there."""
    if COMPILER.exists():
        return ""
    command = npm(node)
    if command is None:
        return "there is no npm"
    options = ["--prefix", str(FOLDER), "--no-audit", "--no-fund", "--ignore-scripts"]
    patience = ["--fetch-timeout=30000", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    try:
        done = subprocess.run(
            [*command, "install", *options, *patience, f"typescript@{VERSION}"],
            capture_output=True,
            text=True,
            timeout=300,
        )
    except subprocess.TimeoutExpired:
        return "npm has not answered within 300 s"
    if done.returncode or not COMPILER.exists():
        lines = (done.stderr or done.stdout).strip().splitlines()
        return f"npm could not install typescript {VERSION}: {lines[0] if lines else 'no reason given'}"
    return ""


def main() -> int:
    node = find_node()
    problem = "there is no node" if node is None else install(node)
    if node is None or problem:
        required = "typescript" in os.environ.get("DTQ_REQUIRE", "")
        print(f"THE TYPES OF THE BOARD ARE NOT CHECKED: {problem}", file=sys.stderr)
        return int(required)
    return subprocess.run([node, str(COMPILER), "--project", str(ROOT)]).returncode


if __name__ == "__main__":
    sys.exit(main())
