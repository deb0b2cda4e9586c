"""`dtqkit schedules …`, in processes of their own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from bson import ObjectId

from dtqkit import Settings, TaskQueue
from tests import sample
from tests.command import ROOT, answer, dtqkit
from tests.conftest import Mongo
from tests.serving import publish

DECLARING = """
from dtqkit import TaskQueue

queue = TaskQueue()


@queue.scheduled("0 3 * * *", tz="Europe/Berlin")
@queue.task
def nightly() -> None: ...
"""


def test_a_schedule_is_made_shown_paused_run_and_removed(queue: TaskQueue, settings: Settings) -> None:
    publish(settings, [task.info for task in queue.registry])
    assert dtqkit("schedules", settings=settings).stdout == "no schedules\n"
    made = answer(
        *("schedules", "add", "nightly", "add", "--cron", "0 3 * * 1-5", "--tz", "Europe/Berlin"),
        *("--payload", '{"a": 2}', "--overlap", "skip", "--catch-up", "2h"),
        settings=settings,
    )
    assert (made["payload"], made["catch_up_s"], made["overlap"]) == ({"a": 2}, 7200, "skip")
    listed = dtqkit("schedules", settings=settings).stdout.splitlines()
    assert listed[0].split()[:4] == ["name", "when", "next", "last"]
    assert listed[1].startswith("nightly  0 3 * * 1-5 Europe/Berlin")
    assert dtqkit("schedules", "pause", "nightly", "-r", "holidays", settings=settings).stdout == "nightly is paused\n"
    assert "paused: holidays" in dtqkit("schedules", settings=settings).stdout
    job = answer("schedules", "run", "nightly", settings=settings)
    shown = dtqkit("schedules", "show", "nightly", settings=settings).stdout
    assert "overlap:     skip" in shown
    assert job["id"] in shown
    assert answer("schedules", "resume", "nightly", settings=settings).get("paused") is None
    done = answer("schedules", "backfill", "nightly", "--start", "2026-01-05", "--end", "2026-01-12", settings=settings)
    assert done == {"times": 5, "enqueued": 5, "found": 0}
    assert dtqkit("schedules", "remove", "nightly", settings=settings).stdout == "nightly is removed\n"
    gone = dtqkit("schedules", "remove", "nightly", settings=settings)
    assert (gone.returncode, "there is no schedule 'nightly'" in gone.stderr) == (2, True)
    for job_ in queue.jobs().items:
        queue.get(job_.id).cancel()


def test_a_schedule_whose_last_run_failed_says_so(queue: TaskQueue, settings: Settings, mongo: Mongo) -> None:
    database = mongo[settings.database_name]
    for name in ("bad", "good", "gone", "paused", "none"):
        queue.schedule(name, sample.add.bind(1), every_s=3600)
    for name, status in (("bad", "failed"), ("good", "completed"), ("paused", "failed")):
        job = sample.add.submit(1)
        database.jobs.update_one({"_id": ObjectId(job.id)}, {"$set": {"status": status, "ended_at": datetime.now(UTC)}})
        database.schedules.update_one({"_id": name}, {"$set": {"last_job": job.id}})
    database.schedules.update_one({"_id": "gone"}, {"$set": {"last_job": str(ObjectId())}})
    queue.schedule_of("paused").pause("holidays")
    shown = dtqkit("schedules", settings=settings).stdout.splitlines()[1:]
    states = {line.split()[0]: line.split("  ")[-1].strip() for line in shown}
    assert (states["bad"], states["paused"]) == ("last run failed", "paused: holidays")
    assert {states[name] for name in ("good", "gone", "none")} == {"add"}


def test_wrong_use_is_one_line_that_names_the_field(settings: Settings) -> None:
    wrong = dtqkit("schedules", "add", "s", "add", "--cron", "61 * * * *", settings=settings)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "the minute is '61'" in wrong.stderr
    assert (
        "Europe/Berlin" in dtqkit("schedules", "add", "s", "add", "--every", "9", "--tz", "X", settings=settings).stderr
    )
    assert "no JSON object" in dtqkit("schedules", "add", "s", "t", "--payload", "[", settings=settings).stderr
    assert "is no time" in dtqkit("schedules", "backfill", "s", "--start", "x", "--end", "y", settings=settings).stderr


def test_what_an_app_declares_is_applied_and_pruned(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "declaring.py").write_text(DECLARING)
    path = f"{tmp_path}:{ROOT}"
    first = answer("schedules", "apply", "declaring:queue", settings=settings, PYTHONPATH=path)
    assert first["made"] == ["nightly"]
    again = dtqkit("schedules", "apply", "declaring:queue", settings=settings, PYTHONPATH=path)
    assert again.stdout == "unchanged: nightly\n"
    (tmp_path / "declaring.py").write_text(DECLARING.replace('@queue.scheduled("0 3 * * *", tz="Europe/Berlin")', ""))
    kept = dtqkit("schedules", "apply", "declaring:queue", settings=settings, PYTHONPATH=path)
    assert kept.stdout == "declaring:queue declares no schedules\n"
    pruned = dtqkit("schedules", "apply", "declaring:queue", "--prune", settings=settings, PYTHONPATH=path)
    assert pruned.stdout == "removed: nightly\n"


def test_next_is_true_while_a_schedule_is_paused_and_when_it_is_resumed(queue: TaskQueue, settings: Settings) -> None:
    publish(settings, [task.info for task in queue.registry])
    queue.schedule("often", sample.add.bind(1), every_s=1)
    queue.schedule("often", sample.add.bind(1), every_s=1).pause()
    assert dtqkit("schedules", "list", settings=settings).stdout == dtqkit("schedules", settings=settings).stdout
    assert answer("schedules", "list", settings=settings)[0]["name"] == "often"
    row = dtqkit("schedules", "list", settings=settings).stdout.splitlines()[1].split()
    assert row[:5] == ["often", "every", "1", "s", "paused"]
    assert "next: none while it is paused" in dtqkit("schedules", "show", "often", settings=settings).stdout
    resumed = dtqkit("schedules", "resume", "often", settings=settings).stdout
    assert resumed.startswith("often is not paused any more: next at ")
    at = datetime.strptime(resumed.split("next at ")[1].strip(), "%Y-%m-%d %H:%M:%S %z")
    assert at > datetime.now(UTC) - timedelta(seconds=15), "and not a time that fell into the pause"


def test_what_people_ask_for_is_counted_by_itself(queue: TaskQueue, settings: Settings) -> None:
    schedule = queue.schedule("nightly", sample.add.bind(1), cron="0 3 * * *")
    schedule.run_now()
    assert schedule.backfill(datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 8, tzinfo=UTC)).enqueued == 3
    assert schedule.backfill(datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 8, tzinfo=UTC)).enqueued == 0
    record = schedule.refresh().record
    assert (record.by_hand, record.enqueued, record.missed, record.skipped) == (4, 0, 0, 0)
    assert "by hand:     4 jobs" in dtqkit("schedules", "show", "nightly", settings=settings).stdout
    queue.cancel_many(all=True)


def test_a_run_of_a_unique_task_that_is_there_already_is_said(queue: TaskQueue, settings: Settings) -> None:
    @queue.task(unique="active", unique_key="k")
    def once() -> None: ...

    publish(settings, [task.info for task in queue.registry])
    queue.schedule("nightly", once.bind(), every_s=3600)
    first = dtqkit("schedules", "run", "nightly", settings=settings)
    again = dtqkit("schedules", "run", "nightly", settings=settings)
    assert first.stdout == again.stdout
    assert first.stderr == ""
    assert f"there already, no new job: {first.stdout.strip()} has the unique key 'k' until it is over" in again.stderr


def test_times_of_a_backfill_without_an_offset_are_those_of_the_schedule_s_zone(
    queue: TaskQueue, settings: Settings
) -> None:
    handle = queue.schedule("nightly", sample.add.bind(1), cron="0 3 * * *", tz="Asia/Tokyo")
    span = ("--start", "2026-01-05T03:00", "--end", "2026-01-06T03:00")
    done = answer("schedules", "backfill", "nightly", *span, settings=settings, TZ="America/New_York")
    assert done["times"] == 1
    (run,) = handle.runs()
    assert run.scheduled_for == datetime(2026, 1, 4, 18, tzinfo=UTC)
