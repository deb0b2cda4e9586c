"""The dashboard's files, as they stand in the package `dtqkit.dashboard`."""

from __future__ import annotations

import re
from importlib import resources
from typing import ClassVar, Final

from dtqkit.errors import Refused
from dtqkit.web.access import Scope
from dtqkit.web.base import Base

_PACKAGE: Final = "dtqkit.dashboard"
_FILES: Final = {
    "": ("index.html", "text/html; charset=utf-8"),
    "board.js": ("board.js", "text/javascript; charset=utf-8"),
    "board.css": ("board.css", "text/css; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
    "config.js": ("config.js", "text/javascript; charset=utf-8"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}


def _read(name: str) -> bytes | None:
    try:
        return resources.files(_PACKAGE).joinpath(name).read_bytes()
    except (ModuleNotFoundError, FileNotFoundError):
        return None


class PageHandler(Base):
    """Open: the page holds nothing; it asks for the token. It may be shown in a frame of its own origin only."""

    scopes: ClassVar[dict[str, Scope]] = {"GET": "open"}

    def get(self, name: str | None) -> None:
        file, kind = _FILES[name or ""]
        content = _read(file)
        if content is None:
            raise Refused("not_found", "there is nothing at this address")
        self.set_header("Content-Type", kind)
        self.set_header("Cache-Control", "no-cache")
        self.set_header("Content-Security-Policy", self._policy())
        self.set_header("X-Frame-Options", "SAMEORIGIN")
        self.set_header("Cross-Origin-Opener-Policy", "same-origin")
        self.answer(content)

    def _policy(self) -> str:
        """Our own scripts and styles only; connections to ourselves and to the WebSocket's port of the same name."""
        name = self.request.host_name
        sockets = " ".join(
            f"{scheme}://{name}:{port}" for port in sorted(self.services.origins.ports) for scheme in ("ws", "wss")
        )
        return (
            "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; object-src 'none'; "
            f"base-uri 'none'; form-action 'none'; frame-ancestors 'self'; connect-src 'self' {sockets}"
        )


routes = [(f"/({'|'.join(re.escape(name) for name in _FILES if name)})?", PageHandler)]
