"""Jobs that have lost a worker before: taken one at a time, and none of them forgotten meanwhile."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from bson import ObjectId
from pymongo import MongoClient

from dtqkit import TaskQueue
from dtqkit.broker.keys import Keys
from dtqkit.local import LocalStores
from tests import sample
from tests.wait import wait_until
from tests.workers import Workers


def test_suspects_that_stand_in_one_batch_are_all_run(queue: TaskQueue, mongo: MongoClient[dict[str, Any]]) -> None:
    # Given four jobs in a lane that have each lost a worker
    jobs = queue.submit_many(sample.add_async.bind(n) for n in range(4))
    mongo[queue.settings.database_name].jobs.update_many({}, {"$set": {"losses": 1}})
    # When a worker fetches them together, in a queue whose audit comes only after minutes
    with Workers(queue, settings=queue.settings.replace(lease_s=180.0)):
        # Then each is run, one after the other
        assert jobs.results(timeout=30) == [1, 2, 3, 4]


@pytest.mark.parametrize("started_at", ["2026-01-01T00:00:00", "9999-12-31T00:00:00Z"])
def test_whatever_redis_says_of_its_start_a_lost_job_is_run_again(
    queue: TaskQueue, mongo: MongoClient[dict[str, Any]], stores: LocalStores, started_at: str
) -> None:
    job = sample.add_async.submit(1)
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    gone = {"status": "running", "claim": ObjectId(), "worker": "gone", "token": 1}
    times = {"claimed_at": long_ago, "lease_until": long_ago}
    mongo[queue.settings.database_name].jobs.update_one({}, {"$set": gone | times})
    with redis.Redis.from_url(stores.redis_url) as client:
        said = f'{{"id": "{job.id}", "token": 1, "started_at": "{started_at}"}}'
        client.set(Keys.of(queue.settings.namespace).live(job.id), said, ex=60)
    with Workers(queue):
        assert job.result(timeout=30) == 2
        wait_until(lambda: len(job.refresh().record.attempts) == 2)
    lost, again = job.record.attempts
    assert (lost.ending, again.ending) == ("lost", "completed")
    assert lost.started_at is None or lost.started_at <= datetime.now(UTC)


def test_a_delayed_job_is_due_by_the_clock_of_mongodb_though_it_was_set_a_moment_ago(
    queue: TaskQueue, mongo: MongoClient[dict[str, Any]]
) -> None:
    queue.depths()  # connected
    store: Any = queue.core.control._parts.store  # pyright: ignore
    store._clock._zero -= timedelta(seconds=40)  # MongoDB's clock was set on by so much since it was read
    store._compared = float("-inf")
    for job in (sample.add.options(delay_s=30.0).submit(1), *sample.add.options(delay_s=30.0).map([2])):
        due_at = job.record.due_at
        assert due_at is not None
        left_s = (due_at - mongo.admin.command("hello")["localTime"].replace(tzinfo=UTC)).total_seconds()
        assert 20 < left_s < 31
        job.cancel()
