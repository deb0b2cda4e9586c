"""The queue over HTTP and WebSocket.

The way of a request: `app` routes it; `base` checks where it comes from (`access`) and names it; `intake` reads it;
`operations` asks the queue, and writes the answer as JSON; `problem` writes what went wrong. Events go from the bus
through `hub` to the clients of `stream`.
"""

from dtqkit.web.listening import Address
from dtqkit.web.server import serve

__all__ = ["Address", "serve"]
