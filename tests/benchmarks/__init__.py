"""What dtqkit costs and how fast it is, beside its budgets and its peers: `python -m tests.benchmarks [suite …]`.

A suite is a module of this package with `SUITE`, one line that says what it measures, and `run(bench)`, which yields a
Row for each figure. It takes its times on real servers of its own; absolute rates depend on the machine and on what else
runs there, so each suite that gives rates yields a yardstick of the same minutes too.
"""
