"""The dashboard behind jupyter-server-proxy: a card in JupyterLab's launcher, on Binder, a hub or a laptop.

The server that it starts listens on loopback, and each start of Jupyter makes a new token for it. The token comes to
the page in the fragment of the card's address, which no request carries: only a person who has passed Jupyter's own
login can read it. Another user of the machine who finds the port has no token, which is why the server does not
run without one.
"""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import Any


def setup_dashboard() -> dict[str, Any]:
    """What jupyter-server-proxy asks for: how to start the server, and its card."""
    token = secrets.token_urlsafe(32)
    here = "http://127.0.0.1:{port}"
    return {
        "command": [sys.executable, "-m", "dtqkit", "server", "--port", "{port}", "--ws-port", "0"],
        "environment": {"DTQ_TOKEN": token, "DTQ_DRAIN_S": "0"},
        "timeout": 30,
        "absolute_url": False,
        # The name by which a person reaches Jupyter is Jupyter's to check; the server knows itself on loopback only.
        "request_headers_override": {"Host": "127.0.0.1:{port}", "Origin": here},
        "new_browser_tab": False,
        "launcher_entry": {
            "title": "Task queue",
            "path_info": f"dtqkit/#token={token}",
            "icon_path": str(Path(__file__).parent.with_name("dashboard") / "icon.svg"),
        },
    }
