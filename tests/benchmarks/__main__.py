"""Run suites, print their tables, and write bench-out/<suite>.json."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, cast

import tests.benchmarks as package
from tests.benchmarks import report
from tests.benchmarks.bench import Bench, servers


class Suite(Protocol):
    #: One line: what it measures.
    SUITE: str

    def run(self, bench: Bench, /) -> Iterable[report.Row]: ...


def suites() -> dict[str, Suite]:
    """The modules of this package that are suites, by name."""
    modules = [m.name for m in pkgutil.iter_modules(package.__path__) if m.name != "__main__"]
    loaded = {name: importlib.import_module(f"{package.__name__}.{name}") for name in modules}
    return {name: cast("Suite", module) for name, module in loaded.items() if hasattr(module, "SUITE")}


def main() -> int:
    known = suites()
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Suites:\n" + "\n".join(f"  {name:<10} {suite.SUITE}" for name, suite in known.items()),
    )
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="which ones (default: all)")
    parser.add_argument("--quick", action="store_true", help="few and small: to see that it works, not to be quoted")
    parser.add_argument("--rounds", type=int, default=5, help="rounds whose median is given (default: 5)")
    parser.add_argument("--out", type=Path, default=Path("bench-out"), help="where JSON is written")
    options = parser.parse_args()
    if unknown := set(options.suites) - set(known):
        parser.error(f"there is no suite {min(unknown)!r}; there are {', '.join(known)}")
    missed = 0
    for name in options.suites or known:
        where = report.machine()
        print(f"\n{name}: {known[name].SUITE} (load {where['load_before']}, {where['cores']} cores)", flush=True)
        rows: list[report.Row] = []
        with servers(options.out, quick=options.quick, rounds=1 if options.quick else options.rounds) as bench:
            for row in known[name].run(bench):
                rows.append(row)
                print(f"  … {row.what}: {row.value:,.4g} {row.unit}", flush=True)
        report.write(options.out / f"{name}.json", name, where | {"quick": options.quick}, rows)
        print(report.table(rows), flush=True)
        missed += sum(row.verdict == "MISSED" for row in rows)
    return 1 if missed and not options.quick else 0


if __name__ == "__main__":
    sys.exit(main())
