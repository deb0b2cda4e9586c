"""The leader's rounds: small, each safe to repeat, harmless when two leaders run them at once."""

from dtqkit.recovery.leader import Leader

__all__ = ["Leader"]
