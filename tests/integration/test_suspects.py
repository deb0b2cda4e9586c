"""Jobs that have lost a worker before: taken one at a time, and none of them forgotten meanwhile."""

from typing import Any

from pymongo import MongoClient

from dtqkit import TaskQueue
from tests import sample
from tests.workers import Workers


def test_suspects_that_stand_in_one_batch_are_all_run(queue: TaskQueue, mongo: MongoClient[dict[str, Any]]) -> None:
    # Given four jobs in a lane that have each lost a worker
    jobs = queue.submit_many(sample.add_async.bind(n) for n in range(4))
    mongo[queue.settings.database_name].jobs.update_many({}, {"$set": {"losses": 1}})
    # When a worker fetches them together, in a queue whose audit comes only after minutes
    with Workers(queue, settings=queue.settings.replace(lease_s=180.0)):
        # Then each is run, one after the other
        assert jobs.results(timeout=30) == [1, 2, 3, 4]
