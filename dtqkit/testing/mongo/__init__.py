"""MongoDB in memory, as far as `dtqkit.store` uses it: the record of a TestQueue.

The store's own filters, updates and pipelines are interpreted, so that no rule of the record is written a second time.
What is not known here raises NotImplementedError, which names it. tests/integration/test_memory_mongo.py compares with
a real mongod.
"""
