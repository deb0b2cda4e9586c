"""Rows of figures: as a table for people and as JSON for machines."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Literal

import msgspec

PACKAGES = ("dtqkit", "redis", "hiredis", "pymongo", "msgspec", "uvloop", "tornado", "simpy", "numpy")


class Budget(msgspec.Struct, frozen=True):
    """What a figure may be at most, or must be at least."""

    limit: float
    kind: Literal["at most", "at least"] = "at most"

    def holds(self, value: float) -> bool:
        return value <= self.limit if self.kind == "at most" else value >= self.limit

    def __str__(self) -> str:
        return f"{'<=' if self.kind == 'at most' else '>='} {self.limit:,g}"


class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One figure: the median of its rounds."""

    what: str
    value: float
    unit: str
    budget: Budget | None = None
    #: One value a round, in the order in which they were measured.
    raw: tuple[float, ...] = ()
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.budget is None:
            return ""
        return "ok" if self.budget.holds(self.value) else "MISSED"


def at_most(limit: float) -> Budget:
    return Budget(limit)


def at_least(limit: float) -> Budget:
    return Budget(limit, "at least")


def row(what: str, raw: Sequence[float], unit: str, budget: Budget | None = None, note: str = "") -> Row:
    """A figure from its rounds."""
    return Row(what=what, value=median(raw), unit=unit, budget=budget, raw=tuple(raw), note=note)


def quantile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least `share` of all do not exceed."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def table(rows: Iterable[Row]) -> str:
    """Columns: what, figure, budget, verdict."""
    lines = [("", "measured", "unit", "budget", "")]
    lines += [(r.what, _number(r.value), r.unit, str(r.budget or ""), r.verdict) for r in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    return "\n".join(
        f"{what:<{widths[0]}}  {value:>{widths[1]}} {unit:<{widths[2]}}  {budget:<{widths[3]}}  {verdict}".rstrip()
        for what, value, unit, budget, verdict in lines
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.3g}"


def machine() -> dict[str, Any]:
    """Where and with what it was measured."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release()}",
        "load_before": round(os.getloadavg()[0], 2),
        "versions": versions,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def write(path: Path, suite: str, where: dict[str, Any], rows: Sequence[Row]) -> None:
    """The suite's figures as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"suite": suite, **where, "rows": [msgspec.to_builtins(r) | {"verdict": r.verdict} for r in rows]}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
