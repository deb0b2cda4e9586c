"""Why processes did not start, or did not last."""

from __future__ import annotations

from dtqkit.model.errors import DtqError


class NoWorkerCanStart(DtqError):
    """Worker processes end as soon as they start."""

    code = "no_worker"


class StartFailed(DtqError):
    """A server or workers did not start; their log has the reason."""

    code = "start_failed"


class CannotListen(DtqError, OSError):
    """A port that a server cannot open, e.g. because another process uses it."""

    code = "cannot_listen"


class LocalStoreError(DtqError):
    """A private redis-server or mongod cannot be found or started."""

    code = "local_store"


class SimulationFailed(DtqError, RuntimeError):
    """A simulation takes more memory than there is, or one of its processes was killed."""

    code = "simulation_failed"
