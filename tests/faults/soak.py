"""Random runs, one after the other, for so many minutes: python -m tests.faults.soak --minutes 10 [--seed 1].

By turns on two servers of our own, and on stores as hosts have them: a replica set with elections, a Redis pair with
failovers, a user whose rights change (`--stores` for one of the two). The stores and the workers w1 live on from run to
run, so that what they leak can be seen.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dtqkit.local import start_local_stores
from tests.faults.chaos import Chaos, Report
from tests.faults.hosted import HostedChaos, HostedStores, HostedWorld
from tests.faults.work import Nursery
from tests.faults.world import World

KINDS = ("local", "hosted")
REAL: dict[str, Any] = {"heartbeat_s": 2.0, "lease_s": 180.0, "grace_s": 10.0}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None, help="of the first run; each next one is one more")
    parser.add_argument("--real", action="store_true", help="with the real times instead of the scaled ones")
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--faults", type=int, default=6)
    parser.add_argument("--stores", choices=("both", *KINDS), default="both")
    parser.add_argument("--out", type=Path, default=None, help="a file that gets a line of JSON for each run")
    arguments = parser.parse_args()
    seed = random.randrange(10**9) if arguments.seed is None else arguments.seed
    settings = REAL if arguments.real else {}
    until = time.monotonic() + 60 * arguments.minutes
    reports: list[Report] = []
    directory = Path(tempfile.mkdtemp(prefix="dtqkit-soak-"))
    print(f"first seed {seed}; logs of the workers in {directory}", flush=True)
    kinds = KINDS if arguments.stores == "both" else (arguments.stores,)
    with ExitStack() as stack:
        nursery = stack.enter_context(Nursery())
        places = {kind: stack.enter_context(Place(kind, nursery, directory, settings)) for kind in kinds}
        turns = cycle(places.values())
        while time.monotonic() < until or len(reports) < len(kinds):
            report = next(turns).run(seed, arguments.jobs, arguments.faults)
            reports.append(report)
            show(report)
            if arguments.out is not None:
                with arguments.out.open("a") as out:
                    out.write(json.dumps(report, default=vars) + "\n")
            seed += 1
    return summary(reports)


class Place:
    """Stores of one kind, from `with` to its end, and the world of the present runs on them."""

    def __init__(self, kind: str, nursery: Nursery, directory: Path, settings: dict[str, Any]) -> None:
        self._kind = kind
        self._nursery = nursery
        self._directory = directory
        self._settings = settings
        self._stack = ExitStack()
        self._of_world = ExitStack()
        self._world: World | None = None

    def __enter__(self) -> Self:
        hosted = self._kind == "hosted"
        self._stores: Any = self._stack.enter_context(
            HostedStores(self._directory / "stores") if hosted else start_local_stores()
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._of_world.close()
        self._stack.close()

    def run(self, seed: int, count: int, faults: int) -> Report:
        hosted = self._kind == "hosted"
        if self._world is None:
            home = self._directory / str(seed)
            home.mkdir()
            world = (HostedWorld if hosted else World)(self._stores, self._nursery, home, **self._settings)
            self._world = self._of_world.enter_context(world)
        report = (HostedChaos if hosted else Chaos)(self._world, seed, count=count, faults=faults).run()
        report.stores = self._kind
        if report.violations:
            # Its ledger and its logs stay, for inspection; the next run starts empty.
            self._of_world.close()
            self._world = None
        else:
            self._world.fresh()
        return report


def show(report: Report) -> None:
    faults = ", ".join(fault.name if fault.hit else f"({fault.name}: missed)" for fault in report.faults)
    repairs = sum(report.repairs.values())
    print(
        f"seed {report.seed}, {report.stores} stores: {report.jobs} jobs, {report.attempts} attempts, "
        f"{report.lost} lost and run again, "
        f"{report.hits} faults [{faults}], {repairs} repairs, w1 {report.resident_mb:.1f} MB"
        f"{' leads' if report.led else ''}, {len(report.violations)} violations, {report.took_s:.0f} s",
        flush=True,
    )
    for line in report.violations:
        print(f"  VIOLATION {line}", flush=True)


def summary(reports: list[Report]) -> int:
    repairs: Counter[str] = Counter()
    for report in reports:
        repairs.update(report.repairs)
    broken = [report.seed for report in reports if report.violations]
    print(
        f"{len(reports)} runs, {sum(r.jobs for r in reports)} jobs, {sum(r.hits for r in reports)} faults that hit, "
        f"{sum(r.lost for r in reports)} attempts lost and made up for, repairs {dict(repairs)}, "
        f"violations in {len(broken)} runs {broken or ''}"
    )
    part = max(1, len(reports) // 5)
    first, last = (statistics.median(r.resident_mb for r in some) for some in (reports[:part], reports[-part:]))
    print(
        f"w1, which is never killed and led at the end of {sum(r.led for r in reports)} runs: resident {first:.1f} MB "
        f"in the first fifth of the runs, {last:.1f} MB in the last ({100 * (last / first - 1):+.1f} %)"
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
