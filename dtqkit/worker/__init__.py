"""A worker: fetch, execute, settle, in this order for each job; and the heartbeat that shows that it is alive.

Nothing is imported here: a child process needs only a small part of it.
"""
