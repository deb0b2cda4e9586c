"""The board: one ES module and one style sheet, for the server's page and for the notebook's widget alike.

A widget passes the text of `BOARD_JS` to its front end as the module, and that of `BOARD_CSS` as the synchronised
trait `css` (not anywidget's `_css`, which would style the whole notebook: the board lives in a shadow root).
"""

from pathlib import Path
from typing import Final

#: The folder that a server or a static host serves, as it is.
FOLDER: Final = Path(__file__).parent

BOARD_JS: Final = FOLDER / "board.js"
BOARD_CSS: Final = FOLDER / "board.css"

#: What belongs to the page, by the name under which it is asked for; the first is the page itself.
FILES: Final = ("index.html", "board.js", "board.css", "page.js", "config.js", "icon.svg")

__all__ = ["BOARD_CSS", "BOARD_JS", "FILES", "FOLDER"]
