"""Processes: a worker's, and the supervisor of several."""
