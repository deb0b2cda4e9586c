"""Seeds that no test chooses: from the commit and the date. DTQ_TEST_SEED repeats a run."""

import hashlib
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path


def base_seed() -> int:
    if given := os.environ.get("DTQ_TEST_SEED"):
        return int(given)
    here = Path(__file__).parent
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    text = git.stdout + datetime.now(UTC).date().isoformat()
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)


def seeds(n: int) -> list[int]:
    return [base_seed() + 1000 * i for i in range(n)]
