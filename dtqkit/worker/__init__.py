"""A worker, in the order of a job's way: fetch, execute, settle; and the beat that says that it lives.

Nothing is imported here: a child process needs only a small part of it.
"""
