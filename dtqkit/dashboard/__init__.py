"""The dashboard: a page, and the board's ES modules and style sheets in `board/`, served as they are.

A notebook's widget carries the same modules as one text (dtqkit/support/linker.py). docs/internals/add-a-panel.md
says how to add a panel.
"""

from pathlib import Path
from typing import Final

#: The folder that a server or a static host serves, as it is.
FOLDER: Final = Path(__file__).parent
#: The modules and style sheets that page and notebook share.
BOARD: Final = FOLDER / "board"

__all__ = ["BOARD", "FOLDER"]
