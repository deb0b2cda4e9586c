"""MongoDB: the record of every job, and the only authority on it."""

from dtqkit.store.store import Store

__all__ = ["Store"]
