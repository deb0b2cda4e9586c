"""Tiers: what can be rented. They are read from a TOML file that users can replace."""

import tomllib
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from dtqkit.capacity import checks
from dtqkit.model.errors import InvalidOption


@dataclass(frozen=True)
class Tier:
    """One offer. Prices in US dollars a month. A limit of None is not checked."""

    name: str
    workers: int
    worker_price: float
    extra_worker_price: float
    api_nodes: int
    api_price: float
    mongodb: str
    mongodb_price: float
    redis: str
    redis_price: float
    #: The whole tier's price as the offer states it, from and to.
    stated_price: tuple[float, float]
    about: str = ""
    #: The load that the offer states.
    jobs_per_day: float | None = None
    #: A month, for each worker.
    worker_hours: float | None = None
    mongodb_storage_mb: float | None = None
    mongodb_operations_per_month: float | None = None
    mongodb_operations_per_s: float | None = None
    redis_memory_mb: float | None = None
    redis_connections: int | None = None

    def __post_init__(self) -> None:
        checks.whole(f"tier {self.name!r} workers", self.workers)
        for name in ("worker_price", "extra_worker_price", "api_price", "mongodb_price", "redis_price"):
            checks.not_negative(f"tier {self.name!r} {name}", getattr(self, name))

    def price(self, workers: int | None = None) -> float:
        """$ a month, with `workers` in place of the tier's own number."""
        count = self.workers if workers is None else workers
        own, extra = min(count, self.workers), max(0, count - self.workers)
        fixed = self.api_nodes * self.api_price + self.mongodb_price + self.redis_price
        return fixed + own * self.worker_price + extra * self.extra_worker_price


def load_tiers(path: str | Path) -> tuple[Tier, ...]:
    """The tiers of a TOML file such as dtqkit/capacity/tiers.toml. InvalidOption names the file and what is wrong."""
    return _parse(Path(path).read_text(encoding="utf-8"), str(path))


@cache
def default_tiers() -> tuple[Tier, ...]:
    """The three tiers of dtqkit/capacity/tiers.toml."""
    return _parse(files("dtqkit.capacity").joinpath("tiers.toml").read_text(encoding="utf-8"), "tiers.toml")


def _parse(text: str, source: str) -> tuple[Tier, ...]:
    try:
        tables: list[dict[str, Any]] = tomllib.loads(text)["tier"]
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise InvalidOption(f"{source} must be TOML with [[tier]] tables: {error}") from error
    known = {field.name for field in fields(Tier)}
    for table in tables:
        if unknown := set(table) - known:
            raise InvalidOption(
                f"{source}: tier {table.get('name', '?')!r} has unknown {', '.join(sorted(unknown))}; "
                f"known are {', '.join(sorted(known))}"
            )
    try:
        return msgspec.convert(tables, tuple[Tier, ...])
    except msgspec.ValidationError as error:
        raise InvalidOption(f"{source}: a tier is wrong or incomplete: {error}") from error
