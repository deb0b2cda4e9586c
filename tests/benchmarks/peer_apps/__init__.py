"""The same no-op on each peer, run with an interpreter that has that peer alone: nothing here imports dtqkit.

`enqueue(N)` enqueues N no-ops and then one job that sets the key `done`. BENCH_REDIS and BENCH_MONGO say where.
"""
