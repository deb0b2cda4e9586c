"""A queue behind a server: the operations of `dtqkit.control` over HTTP, its events over the WebSocket."""

from dtqkit.remote.control import RemoteControl
from dtqkit.remote.http import MAX_CONNECTIONS

__all__ = ["MAX_CONNECTIONS", "RemoteControl"]
