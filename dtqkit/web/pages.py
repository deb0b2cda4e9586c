"""The dashboard's files, as they stand in the package `dtqkit.dashboard`.

The page names them by addresses that begin with `v/VERSION/`, a hash of them all: while servers of two versions stand
behind one address, no page is put together from files of both.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import re
from importlib import resources
from typing import ClassVar, Final, NamedTuple

from dtqkit.model.errors import Refused
from dtqkit.support.linker import link_texts, style_sheet
from dtqkit.web.access import Scope
from dtqkit.web.base import Base

_KINDS: Final = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}
#: A folder of the dashboard, and the page's name within an address.
_FOLDERS: Final = ("", "board/")
_PAGE: Final = "index.html"
#: For pages of others: the board as one module and one sheet, as notebooks have it.
_MODULE: Final = "board.js"
_SHEET: Final = "board.css"
#: In what a client takes; `gzip;q=0` is what it does not.
_GZIP: Final = re.compile(r"\bgzip\b(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))")


class File(NamedTuple):
    """One of the dashboard's."""

    content: bytes
    kind: str


def _files() -> dict[str, File]:
    """What may be asked for, by its address; nothing where the dashboard is not installed.

    Read once: an upgrade under a running server must not mix the files of two versions.
    """
    try:
        root = resources.files("dtqkit.dashboard")
    except ModuleNotFoundError:
        return {}
    found = ((prefix, file) for prefix in _FOLDERS for file in root.joinpath(prefix).iterdir())
    files = {
        f"{prefix}{file.name}": File(file.read_bytes(), _KINDS[_suffix(file.name)])
        for prefix, file in found
        if _suffix(file.name) in _KINDS
    }
    files[_SHEET] = File(style_sheet(root).encode(), _KINDS["css"])
    return files


def _suffix(name: str) -> str:
    return name.rpartition(".")[2]


_FILES: Final = _files()


def _version() -> str:
    found = hashlib.sha256()
    for name, file in sorted(_FILES.items()):
        found.update(f"{name} {len(file.content)} ".encode() + file.content)
    return found.hexdigest()[:16]


#: Of the dashboard's files, as a part of their addresses.
VERSION: Final = _version()
_NAMED: Final = re.compile(rb'(<(?:link|script) [^>]*(?:href|src)=")(?=[^":]+")')
_OTHER: Final = (
    "this file belongs to a page of another version of the server, which is being upgraded: reload the page in a moment"
)


@functools.cache
def _module() -> File:
    """Joined when it is asked for: few pages do."""
    return File(link_texts(lambda name: _FILES[f"board/{name}"].content.decode()).encode(), _KINDS["js"])


@functools.lru_cache(maxsize=len(_FILES) + 2)
def _compressed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


class PageHandler(Base):
    """Open: the page holds nothing; it asks for the token. It may be shown in a frame of its own origin only."""

    scopes: ClassVar[dict[str, Scope]] = {"GET": "open"}
    _etag: str | None = None

    def get(self, version: str | None, name: str | None) -> None:
        if version and version != VERSION:
            raise Refused("not_found", _OTHER)
        file = _module() if name == _MODULE and _FILES else _FILES.get(name or _PAGE)
        if file is None or (version and not name):
            raise Refused("not_found", "there is nothing at this address")
        content = file.content if name else _NAMED.sub(rf"\1v/{VERSION}/".encode(), file.content)
        self.set_header("Content-Type", file.kind)
        self.set_header("Cache-Control", "public, max-age=31536000, immutable" if version else "no-cache")
        self.set_header("Vary", "Origin, Accept-Encoding")
        self.set_header("Content-Security-Policy", self._policy())
        self.set_header("X-Frame-Options", "SAMEORIGIN")
        self.set_header("Cross-Origin-Opener-Policy", "same-origin")
        if _GZIP.search(self.request.headers.get("Accept-Encoding", "")):
            content = _compressed(content)
            self.set_header("Content-Encoding", "gzip")
        self._etag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
        self.answer(content)

    def compute_etag(self) -> str | None:
        """A page of many files is shown at once when the browser has them and they are as they were."""
        return self._etag

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


_names: Final = "|".join(re.escape(name) for name in sorted((*_FILES, _MODULE)) if name != _PAGE)
routes = [(rf"/(?:v/(\w+)/)?({_names})?", PageHandler)]
