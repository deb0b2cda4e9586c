"""The tests in JavaScript: what of the board needs no document."""

import subprocess
from pathlib import Path

from tests.node import node_or_skip

FILES = sorted(Path(__file__).parent.glob("*.test.mjs"))


def test_what_needs_no_document_works_in_node() -> None:
    done = subprocess.run(
        [node_or_skip(), "--no-warnings", "--test", "--test-reporter=spec", *map(str, FILES)],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pass 0" not in done.stdout
