"""Redis: lanes of ids, liveness of workers, and the bus. It may lose anything at any time; MongoDB holds the truth."""

from dtqkit.broker.broker import Broker
from dtqkit.broker.keys import Keys

__all__ = ["Broker", "Keys"]
