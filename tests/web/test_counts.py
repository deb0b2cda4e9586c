"""Counters are those of the record: the same at each server, and never less than before."""

from collections.abc import Callable
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from dtqkit import TaskQueue
from tests.serving import Server
from tests.wait import wait_until
from tests.web.tasks import ALL, add
from tests.workers import Workers

Start = Callable[..., Server]


def counters(server: Server) -> dict[str, float]:
    """Jobs by status, over all tasks and priorities."""
    answer = server.get("/metrics")
    assert answer.status == 200, answer.body
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(answer.body.decode()):
        for one in family.samples:
            if one.name == "dtqkit_jobs_total":
                found[one.labels["status"]] = found.get(one.labels["status"], 0) + one.value
    return found


def batch(n: int) -> list[dict[str, Any]]:
    return [{"task": "add", "payload": {"a": 1}} for _ in range(n)]


def test_bulk_submits_are_counted_whole_at_every_server_and_after_a_restart(start_server: Start) -> None:
    first, second = start_server(), start_server()
    for _ in range(5):
        assert first.post("/jobs/batch", batch(1_000)).status == 200
    assert counters(first)["pending"] == counters(second)["pending"] == 5_000
    assert first.get("/stats?window_s=60").json["submitted"] == 5_000
    second.stop()
    second.start()
    assert counters(second)["pending"] == 5_000
    assert second.get("/stats/totals").json["totals"] == [
        {
            "task": "add",
            "priority": "high",
            "submitted": 5_000,
            "completed": 0,
            "failed": 0,
            "cancelled": 0,
            "duplicates": 0,
        }
    ]


def test_no_counter_ever_steps_back_whichever_server_is_asked(start_server: Start) -> None:
    servers = [start_server(), start_server()]
    with TaskQueue(servers[0].settings) as queue:
        for task in ALL:
            queue.add(task)
        jobs = add.map(range(500))
        last: dict[str, float] = {}
        asked = 0

        def done() -> bool:
            nonlocal last, asked
            asked += 1
            if asked == 10:
                servers[0].stop()
                servers[0].start()
            now = counters(servers[asked % 2])
            assert all(now[status] >= n for status, n in last.items()), (last, now)
            last = now
            return now["completed"] == 500

        with Workers(queue):
            wait_until(done, timeout_s=60)
    assert last == {"pending": 500, "completed": 500, "failed": 0, "cancelled": 0}
    assert len(jobs) == 500


def test_stats_have_the_last_60_minutes(start_server: Start) -> None:
    server = start_server()
    assert server.post("/jobs", {"task": "add", "payload": {"a": 1}}).status == 201
    stats = server.get("/stats?window_s=10").json
    assert len(stats["minutes"]) == 60
    assert stats["minutes"][0]["at"] < stats["minutes"][-1]["at"] < stats["at"]
    assert (stats["submitted"], stats["completed"], stats["cancelled"]) == (1, 0, 0)
    assert stats["sampled"] is None
