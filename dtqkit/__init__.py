"""A distributed task queue for notebooks and production.

from dtqkit import TaskQueue

queue = TaskQueue.local(workers=3)

@queue.task
def add(a: int, b: int) -> int:
    return a + b

add.submit(2, 3).result(timeout=30)     # 5
"""

import logging
from typing import TYPE_CHECKING, Any

from dtqkit._version import VERSION

if TYPE_CHECKING:
    from dtqkit import _public
    from dtqkit._public import *  # noqa: F403 - each of its names, for type checkers and editors

    __all__: list[str] = []
    __all__ += _public.__all__

# A library logs nothing until its user configures logging: log lines of a kernel's workers stay out of notebook cells.
logging.getLogger("dtqkit").addHandler(logging.NullHandler())

if not TYPE_CHECKING:  # else they would accept any name

    def __getattr__(name: str) -> Any:
        """A public name at its first use: a server and most commands need none, and start sooner without."""
        if name == "__version__":
            return VERSION
        if not name.startswith("_") or name == "__all__":
            from dtqkit import _public

            if name == "__all__" or name in _public.__all__:
                value = globals()[name] = getattr(_public, name)
                return value
            if name in globals():  # a module of the package, imported just now
                return globals()[name]
        raise AttributeError(f"module 'dtqkit' has no attribute {name!r}")

    def __dir__() -> list[str]:
        return __getattr__("__all__")
