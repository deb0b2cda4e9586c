"""`python -m tests.model`: every scenario, then every guard taken away in turn, as a table with its traces."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from tests.model.explore import Result, explore
from tests.model.guards import TABLE, Row, check, verdict
from tests.model.scenarios import DEEP, EVERY_RUN, Scenario

#: States that fit into about 8 GB.
DEEP_LIMIT = 8_000_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 when every scenario holds and every guard does what the table says."""
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--deep", action="store_true", help="larger bounds instead, some minutes each")
    parser.add_argument("--guard", metavar="TEXT", help="only the guards whose name holds TEXT")
    parser.add_argument("--no-traces", action="store_true", help="the tables alone")
    options = parser.parse_args(arguments)
    began, cpu_began = time.monotonic(), time.process_time()
    held = True
    if not options.guard:
        held = print_scenarios(DEEP if options.deep else EVERY_RUN)
    if not options.deep:
        rows = [row for row in TABLE if options.guard is None or options.guard in row.name]
        held = print_guards(rows, traces=not options.no_traces) and held
    took = f"{time.monotonic() - began:.0f} s, {time.process_time() - cpu_began:.0f} s of one core"
    print(f"\n{'As expected' if held else 'NOT AS EXPECTED'}: {took}.")
    return 0 if held else 1


def print_scenarios(scenarios: Sequence[Scenario]) -> bool:
    print("The protocol, every interleaving:\n")
    print(f"  {'scenario':<70} {'states':>10} {'transitions':>12} {'cpu s':>6}  verdict")
    problems: list[tuple[Scenario, Result]] = []
    for scenario in scenarios:
        result = explore(scenario.build(frozenset()), limit=DEEP_LIMIT)
        says = "BROKEN" if result.problem else "safe, always recoverable"
        counts = f"{result.states:>10,} {result.transitions:>12,} {result.seconds:>6.1f}"
        print(f"  {scenario.name:<70} {counts}  {says}", flush=True)
        if result.problem:
            problems.append((scenario, result))
    for scenario, result in problems:
        print(f"\n{scenario.name}: {result.problem}")
    return not problems


def print_guards(rows: Sequence[Row], *, traces: bool) -> bool:
    print("\nEach guard taken away:\n")
    print(f"  {'guard':<54} {'verdict':<7} {'steps':>5} {'states':>7}  what goes wrong, or what heals it")
    held = True
    caught: list[tuple[Row, Result]] = []
    for row in rows:
        result = check(row)
        steps = str(len(result.problem)) if result.problem else ""
        print(f"  {row.name:<54} {verdict(result):<7} {steps:>5} {result.states:>7}  {row.why}", flush=True)
        if verdict(result) != row.verdict:
            held = False
            print(f"    EXPECTED: {row.verdict}")
        if result.problem:
            caught.append((row, result))
    if traces:
        print("\nHow each of those that are caught goes wrong, shortest first (! is a fault):")
        for row, result in sorted(caught, key=lambda entry: len(entry[1].problem or ())):
            print(f"\nWithout [{row.name}]: {result.problem}")
    return held


if __name__ == "__main__":
    sys.exit(main())
