"""The fault tests' tasks as an APP: `tests.faults.app:queue`."""

from dtqkit import TaskQueue

queue = TaskQueue()
queue.include("tests.faults.jobs")
