"""The routes that a server has, with their scopes."""

import re

from dtqkit.control import OPERATIONS
from dtqkit.web.access import Scope
from dtqkit.web.app import routes

Scopes = dict[tuple[str, str], Scope]


def scopes() -> Scopes:
    """By method and pattern, as the handlers ask for them."""
    return {(method, path): scope for path, handler in routes() for method, scope in handler.scopes.items()}


def of_table() -> Scopes:
    """The same, by the table of operations."""
    return {(one.method, re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", one.path)): one.scope for one in OPERATIONS}
