"""`make saved-board`: put the present board into the notebooks that were saved with one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dtqkit.notebook.boards import Board

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
STATES = "application/vnd.jupyter.widget-state+json"


def renewed(text: str) -> str:
    """The notebook with the present board; the same text when it has that, or none."""
    notebook: dict[str, Any] = json.loads(text)
    for widget in notebook["metadata"].get("widgets", {}).get(STATES, {}).get("state", {}).values():
        if "_esm" in widget["state"]:
            widget["state"] |= {"_esm": Board._esm, "css": Board.css.default_value}
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        before = path.read_text()
        if "_esm" in before and (after := renewed(before)) != before:
            path.write_text(after)
            print(f"{path.name} has the present board")
