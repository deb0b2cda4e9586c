"""The version: the package is built with it, and nothing has to be looked up to know it."""

from typing import Final

VERSION: Final = "0.1.0"
