"""Cursors of listings: an id, and a mark that shows when it was changed."""

from __future__ import annotations

import base64
import binascii
import hashlib

from dtqkit.model.errors import InvalidQuery


def encode_cursor(last_id: str) -> str:
    """A cursor that continues after the job `last_id`."""
    place = bytes.fromhex(last_id)
    return base64.urlsafe_b64encode(place + _mark(place)).decode()


def decode_cursor(cursor: str) -> str:
    """The id that `cursor` continues after; raises InvalidQuery when no listing returned it."""
    try:
        decoded = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError, ValueError):
        decoded = b""
    place = decoded[:12]
    if decoded != place + _mark(place) or encode_cursor(place.hex()) != cursor:
        raise InvalidQuery(f"cursor {cursor[:80]!r} was not returned by a listing")
    return place.hex()


def _mark(place: bytes) -> bytes:
    """Missing from a cursor that was cut or changed. It need not be secret: a made-up id is harmless."""
    return hashlib.sha256(b"dtqkit cursor" + place).digest()[:3]
