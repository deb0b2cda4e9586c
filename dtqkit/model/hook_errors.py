"""What is wrong with the hooks of a queue: its middleware and its lifespan."""

from __future__ import annotations

from dtqkit.model.errors import DtqError


class HookError(DtqError, TypeError):
    """Something cannot be a middleware or a lifespan; says what it is, and what would be right."""

    code = "invalid_hook"


class MiddlewareFailed(DtqError, RuntimeError):
    """A middleware raised around the run of a job, or ended an error that was not its own; names the middleware."""

    code = "middleware_failed"


class LifespanFailed(DtqError, RuntimeError):
    """A lifespan raised or did not yield once, so its worker does not start; names the function and the error."""

    code = "lifespan_failed"
