"""What dtqkit costs and how fast it is, beside its budgets and its peers: `python -m tests.benchmarks [suite …]`.

A suite is a module of this package with `SUITE`, one line that says what it measures, and `run(bench)`, which yields a
Row for each figure. It runs on real servers of its own. Rates depend on the machine and on what else runs there, so a
suite that gives rates gives a yardstick of the same minutes too.
"""
