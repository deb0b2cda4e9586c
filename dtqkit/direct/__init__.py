"""The operations of `dtqkit.control`, carried out on the two stores."""

from dtqkit.direct.control import DirectControl

__all__ = ["DirectControl"]
