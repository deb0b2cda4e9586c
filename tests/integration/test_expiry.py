"""`expires_s`: a job that was not started in time is cancelled as expired, wherever it waits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from dtqkit import InvalidOption, Job, JobCancelled, JobExpired, Settings, TaskDefinitionError, TaskQueue, task
from dtqkit.model.outcomes import Dropped
from dtqkit.model.policy import POLICIES
from tests import sample
from tests.command import answer, dtqkit
from tests.conftest import Mongo
from tests.serving import TOKEN, Server, publish
from tests.wait import wait_until
from tests.workers import Workers

APP = "tests.sample:queue"
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
JOB = Job(id="1", task="t", payload={}, created_at=LONG_AGO, expires_s=5, status="running", claim_number=1)


def claimed(job: Job, after_s: float, **fields: int) -> Job:
    return replace(job, claimed_at=LONG_AGO + timedelta(seconds=after_s), **fields)


def test_only_the_first_attempt_expires_and_a_claim_that_was_given_back_is_none() -> None:
    def refusal(job: Job) -> Dropped | None:
        answered = POLICIES.admit(job, lambda: LONG_AGO)
        assert answered is None or isinstance(answered, Dropped)
        return answered

    assert refusal(claimed(JOB, 5.0)) is None
    late = refusal(claimed(JOB, 5.001))
    assert late is not None
    assert str(late.error) == "JobExpired: not started within 5 s of its submission"
    assert refusal(claimed(JOB, 60, claim_number=2, declined=1)) is not None
    assert refusal(claimed(JOB, 60, claim_number=2, failures=1)) is None
    assert refusal(claimed(replace(JOB, expires_s=None), 1e9)) is None


def waited(job_id: str, queue: TaskQueue, seconds: float) -> None:
    """Let it wait for so long, by its record."""
    created = queue.get(job_id).record.created_at
    wait_until(lambda: datetime.now(UTC) - created > timedelta(seconds=seconds))


def test_a_job_that_a_worker_gets_too_late_never_runs_and_is_no_dead_letter(
    queue: TaskQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dtqkit.store.recovery_scan.TO_DROP", {"$literal": False})  # the audit sees none
    with Workers(queue, settings=queue.settings.replace(concurrency=1)):
        before = sample.sleep_async.submit(0.6)
        wait_until(lambda: before.refresh().status == "running")
        late = sample.add_async.options(expires_s=0.2).submit(1, 2)
        early = sample.add_async.options(expires_s=600).submit(3)
        assert early.result(timeout=20) == 4
        with pytest.raises(JobExpired, match=r"has expired: not started within 0.2 s of its submission") as raised:
            late.result(timeout=20)
    assert isinstance(raised.value, JobCancelled)
    record = late.refresh().record
    assert record.error is not None
    assert (record.status, record.error.kind, record.attempt, record.attempts) == ("cancelled", "expired", 0, ())
    assert (record.failures, record.losses, record.started_at) == (0, 0, None)
    assert record.ended_at is not None
    assert record.worker is not None  # it noticed this when it had claimed the job
    assert queue.dead_letters().items == ()
    assert early.record.attempt == 1


def test_a_job_in_a_lane_that_no_worker_serves_expires_too(queue: TaskQueue) -> None:
    late = sample.add.options(expires_s=0.3, priority="low").submit(1, 2)
    later = sample.add.options(expires_s=0.3, priority="low", delay_s=0.2).submit(1, 3)
    kept = sample.add.options(expires_s=600, priority="low").submit(1, 2)
    plain = sample.add.options(priority="low").submit(1, 2)
    waited(late.id, queue, 0.5)
    with Workers(queue, lanes=("high",)):
        for job in (late, later):
            with pytest.raises(JobExpired, match=r"not started within 0.3 s"):
                job.result(timeout=30)
            record = job.refresh().record
            assert (record.status, record.attempt, record.error and record.error.kind) == ("cancelled", 0, "expired")
            assert record.ended_at is not None
        assert [job.refresh().status for job in (kept, plain)] == ["pending", "pending"]


def test_a_retry_may_start_however_late_it_is(queue: TaskQueue, mongo: Mongo) -> None:
    job = sample.fail_until.options(expires_s=5).submit(2)
    attempt = {"number": 1, "worker": "w", "queued_at": LONG_AGO, "claimed_at": LONG_AGO, "ending": "failed"}
    failed = {"created_at": LONG_AGO, "token": 1, "failures": 1, "earlier": [attempt]}
    mongo[queue.settings.database_name]["jobs"].update_one({}, {"$set": failed})
    with Workers(queue):
        assert job.result(timeout=20) == 2


def test_the_option_of_a_call_comes_before_that_of_its_task(queue: TaskQueue) -> None:
    @task(expires_s=60)
    def brief() -> None: ...

    queue.add(brief)
    assert brief.submit().record.expires_s == 60
    assert brief.options(expires_s=5).submit().record.expires_s == 5
    assert sample.add.submit(1).record.expires_s is None


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf"), "5", True, 1e9])
def test_a_wrong_value_is_named_with_its_bounds(wrong: object) -> None:
    bounds = r"expires_s is .*; it is a number of seconds, from more than 0 to 31,622,400"
    with pytest.raises(InvalidOption, match=bounds):
        sample.add.options(expires_s=wrong)  # type: ignore[arg-type]
    with pytest.raises(TaskDefinitionError, match=bounds):
        task(expires_s=wrong)(sample.add.function)  # type: ignore[call-overload]


def test_a_job_that_would_always_expire_is_refused(queue: TaskQueue) -> None:
    with pytest.raises(InvalidOption, match=r"expires_s is 30 and the job is delayed by 60 s: .*longer than the delay"):
        sample.add.options(expires_s=30, delay_s=60).submit(1)


def test_over_http_it_is_accepted_checked_and_shown(queue: TaskQueue, settings: Settings) -> None:
    behind = settings.replace(token=TOKEN, port=0, ws_port=0)
    publish(behind, [one.info for one in queue.registry])
    with Server(behind) as server, TaskQueue.connect(server.http, token=TOKEN) as remote:
        remote.include("tests.sample")
        job = {"task": "add", "payload": {"a": 1}}
        accepted = server.post("/jobs", {**job, "expires_s": 0.2})
        assert (accepted.status, accepted.json["expires_s"]) == (201, 0.2)
        out_of_bounds = server.post("/jobs", {**job, "expires_s": 0})
        assert (out_of_bounds.status, "expires_s" in out_of_bounds.json["detail"]) == (400, True)
        too_short = server.post("/jobs", {**job, "expires_s": 5, "delay_s": 9})
        assert (too_short.status, too_short.json["code"]) == (422, "invalid_option")
        assert "longer than the delay" in too_short.json["detail"]
        waited(accepted.json["id"], remote, 0.4)
        with Workers(queue, settings=behind), pytest.raises(JobExpired, match=r"not started within 0.2 s"):
            remote.get(accepted.json["id"]).result(timeout=20)


def test_the_command_line_submits_it_and_says_why_there_is_no_result(queue: TaskQueue, settings: Settings) -> None:
    job_id = answer("submit", APP, "add", "a=1", "--expires", "0.2", settings=settings)["id"]
    waited(job_id, queue, 0.4)
    with Workers(queue):
        wait_until(lambda: queue.get(job_id).status == "cancelled", timeout_s=20)
    assert "JobExpired: not started within 0.2 s" in dtqkit("job", job_id, settings=settings).stdout
    wrong = dtqkit("submit", APP, "add", "a=1", "--expires", "0", settings=settings)
    assert wrong.returncode == 2
    assert "--expires" in wrong.stderr
