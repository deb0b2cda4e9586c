"""What is due of a schedule, and what is done about it: decided without a store or a clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtqkit import InvalidSchedule, Schedule, ScheduleTaken
from dtqkit.model.schedule_changes import (
    ALIVE_S,
    check,
    check_free,
    declaration,
    definition_of,
    effect_of,
    made,
    pausing,
    redefined,
    resuming,
    span_s,
)
from dtqkit.model.schedules import (
    LATE_S,
    LOOKED,
    PIECE,
    Definition,
    Plan,
    advanced,
    completed,
    is_due,
    jitter,
    key_of,
    next_times,
    plan,
    prefix_of,
    times_between,
)

BEGIN = datetime(2026, 5, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def minutely(**fields: Any) -> Schedule:
    """Due at 60, 120, 180 … seconds after BEGIN."""
    return made(Definition(name="s", task="t", every_s=60, **fields), BEGIN)


def outcome(done: Plan) -> tuple[list[float], int, int]:
    """Seconds of the times that are enqueued; missed; skipped."""
    return [(one - BEGIN).total_seconds() for one in done.enqueue], done.missed, done.skipped


def test_nothing_is_done_before_the_first_time_and_one_job_is_made_at_it() -> None:
    schedule = minutely()
    assert outcome(plan(schedule, at(59.9))) == ([], 0, 0)
    done = plan(schedule, at(60))
    assert outcome(done) == ([60], 0, 0)
    assert done.next_at == at(120)


def test_of_those_that_are_late_the_last_one_runs_and_the_others_are_counted() -> None:
    assert outcome(plan(minutely(), at(250))) == ([240], 3, 0)


def test_all_of_those_within_the_window_run_when_that_is_wanted() -> None:
    schedule = minutely(catch_up_runs="all", catch_up_s=150)
    assert outcome(plan(schedule, at(250))) == ([120, 180, 240], 1, 0)


def test_what_is_older_than_the_window_is_missed() -> None:
    schedule = made(Definition(name="s", task="t", cron="0 13 * * *", catch_up_s=600), BEGIN)
    assert plan(schedule, at(3600 + 599)).enqueue == (at(3600),)
    done = plan(schedule, at(3600 + 601))
    assert (done.enqueue, done.missed, done.next_at) == ((), 1, at(3600 + 86_400))


def test_a_window_of_nothing_still_allows_for_a_leader_that_is_a_moment_late() -> None:
    assert outcome(plan(minutely(catch_up_s=0), at(61))) == ([60], 0, 0)
    assert outcome(plan(minutely(catch_up_s=0), at(63))) == ([], 1, 0)


def test_more_jobs_than_one_plan_enqueues_are_left_to_the_next() -> None:
    schedule = minutely(catch_up_runs="all", catch_up_s=86_400)
    now = at(60 * (PIECE + 5) + 1)
    first = plan(schedule, now)
    assert (len(first.enqueue), first.missed) == (PIECE, 0)
    second = plan(advanced(schedule, first, now), now)
    assert outcome(second)[0] == [60 * (PIECE + n) for n in range(1, 6)]


def test_more_times_of_a_cron_expression_than_one_plan_looks_at_are_left_to_the_next() -> None:
    schedule = made(Definition(name="s", task="t", cron="* * * * *", catch_up_s=400 * 86_400), BEGIN)
    now = at(60 * (LOOKED + 5) + 1)
    first = plan(schedule, now)
    assert outcome(first) == ([], LOOKED, 0)
    second = plan(advanced(schedule, first, now), now)
    assert outcome(second) == ([60 * (LOOKED + 5)], 4, 0)


MONTH_S = 30 * 86_400


@pytest.mark.parametrize(("catch_up_s", "jitter_s"), [(0.0, 0.0), (3600.0, 0.0), (366 * 86_400.0, 0.0), (3600.0, 5.0)])
@pytest.mark.parametrize("runs", ["last", "all"])
def test_a_fast_schedule_that_was_off_for_a_month_is_caught_up_with_by_few_plans(
    catch_up_s: float, jitter_s: float, runs: Any
) -> None:
    fields: dict[str, Any] = {"catch_up_runs": runs, "catch_up_s": catch_up_s, "jitter_s": jitter_s}
    fast = made(Definition(name="s", task="t", every_s=1, **fields), BEGIN)
    paused = resuming(pausing(fast, "", at(0)), at(MONTH_S))
    plans = 0
    while is_due(paused, at(MONTH_S)):
        paused = advanced(paused, plan(paused, at(MONTH_S)), at(MONTH_S))
        paused = completed(paused, dict.fromkeys(paused.pending, "a"), [], at(MONTH_S))
        plans += 1
    assert plans <= 2
    assert paused.next_at is not None
    accounted = (paused.next_at - at(1)) // timedelta(seconds=1)
    assert paused.skipped + paused.enqueued + paused.missed == accounted
    assert paused.skipped >= MONTH_S - 1 - jitter_s
    if runs == "last" or catch_up_s < 3601:
        done = plan(fast, at(MONTH_S))
        assert done.missed >= MONTH_S - 3700
        assert done.next_at is not None
        assert done.next_at > at(200)
    if runs == "last" and not jitter_s:
        assert outcome(plan(fast, at(MONTH_S))) == ([MONTH_S], MONTH_S - 1, 0)


@given(
    late=st.integers(1, 400),
    every_s=st.integers(1, 7),
    window=st.sampled_from([0.0, 5.0, 60.0, 1000.0]),
    runs=st.sampled_from(["last", "all"]),
    pause=st.none() | st.tuples(st.integers(0, 400), st.integers(0, 400)).map(sorted),
    first=st.integers(1, 30),
)
def test_a_plan_does_at_once_what_a_look_at_each_time_would_do(
    late: int, every_s: int, window: float, runs: Any, pause: list[int] | None, first: int
) -> None:
    schedule = made(Definition(name="s", task="t", every_s=every_s, catch_up_runs=runs, catch_up_s=window), BEGIN)
    off = dict(zip(("off_from", "off_until"), map(at, pause), strict=True)) if pause else {}
    schedule = msgspec.structs.replace(schedule, next_at=at(first), **off)
    grid = [n for n in range(every_s, 500, every_s) if n > first]
    due = [n for n in (first, *grid) if n <= late]
    skipped = [n for n in due if pause and pause[0] <= n < pause[1]]
    wanted = [n for n in due if n not in skipped and n >= late - max(window, LATE_S)][-1 if runs == "last" else 0 :]
    done = plan(schedule, at(late))
    missed = len(due) - len(skipped) - len(wanted[:PIECE])
    if len(wanted) <= PIECE:
        assert outcome(done) == (wanted, missed, len(skipped))
        assert done.next_at == at(min(n for n in (first, *grid) if n > late))


@pytest.mark.parametrize(
    ("overlap", "enqueued", "skipped", "cancelled", "held"),
    [
        ("allow", [120], 0, (), None),
        ("skip", [], 1, (), None),
        ("queue_one", [], 0, (), 120),
        ("cancel_running", [120], 0, ("a",), None),
    ],
)
def test_a_run_that_is_due_while_the_one_before_is_not_over(
    overlap: Any, enqueued: list[float], skipped: int, cancelled: tuple[str, ...], held: float | None
) -> None:
    schedule = msgspec.structs.replace(minutely(overlap=overlap), next_at=at(120), live=("a",))
    done = plan(schedule, at(121), ["a"])
    assert outcome(done) == (enqueued, 0, skipped)
    assert done.cancel == cancelled
    assert done.held_at == (None if held is None else at(held))
    over = plan(schedule, at(121), [])
    assert outcome(over) == ([120], 0, 0)
    assert over.cancel == ()


def test_one_run_waits_until_the_one_before_is_over_and_later_ones_are_skipped() -> None:
    schedule = msgspec.structs.replace(minutely(overlap="queue_one"), next_at=at(120), live=("a",))
    waits = advanced(schedule, plan(schedule, at(121), ["a"]), at(121))
    assert (waits.held_at, waits.due_at) == (at(120), at(122))
    still = plan(waits, at(181), ["a"])
    assert (outcome(still), still.held_at) == (([], 0, 1), at(120))
    starts = plan(waits, at(150), [])
    assert (outcome(starts), starts.held_at, starts.live) == (([120], 0, 0), None, ())
    both = plan(waits, at(181), [])
    assert (outcome(both), both.held_at) == (([120], 0, 0), at(180))


def test_of_several_late_ones_that_would_cancel_each_other_only_the_last_is_enqueued() -> None:
    schedule = minutely(overlap="cancel_running", catch_up_runs="all")
    assert outcome(plan(schedule, at(190))) == ([180], 0, 2)


def test_what_is_decided_is_pending_until_its_jobs_are_enqueued() -> None:
    schedule = minutely()
    decided = advanced(schedule, plan(schedule, at(61)), at(61))
    assert (decided.pending, decided.next_at, decided.enqueued) == ((at(60),), at(120), 0)
    assert decided.due_at == datetime(1970, 1, 1, tzinfo=UTC)  # whatever is done to the clock
    assert is_due(decided, at(61))
    assert pausing(decided, "", at(61)).due_at == decided.due_at  # it is enqueued, also when it is paused by then
    done = completed(decided, {at(60): "a"}, [], at(62))
    assert (done.pending, done.due_at, done.enqueued, done.live) == ((), at(120), 1, ("a",))
    assert (done.last_at, done.last_job) == (at(60), "a")
    refused = completed(decided, {}, ["too large"], at(62))
    assert (refused.enqueued, refused.missed, refused.trouble) == (0, 1, "too large")


def test_what_falls_into_a_pause_is_skipped_and_what_was_due_before_it_is_not() -> None:
    paused = pausing(minutely(catch_up_runs="all"), "too loud", at(100))
    assert (paused.due_at, paused.paused and paused.paused.reason) == (None, "too loud")
    assert outcome(plan(paused, at(1000))) == ([], 0, 0)
    again = resuming(paused, at(250))
    done = plan(again, at(301))
    assert outcome(done) == ([60, 300], 0, 3)
    after = advanced(again, done, at(301))
    assert (after.off_from, after.off_until, after.skipped, len(after.pending)) == (None, None, 3, 2)


def test_two_pauses_before_a_leader_looks_are_one() -> None:
    once = resuming(pausing(minutely(), "", at(70)), at(130))
    twice = resuming(pausing(once, "", at(170)), at(190))
    assert outcome(plan(twice, at(250))) == ([240], 1, 2)


def test_a_second_pause_changes_the_reason_and_not_the_time() -> None:
    paused = pausing(pausing(minutely(), "a", at(10)), "b", at(20)).paused
    assert paused is not None
    assert (paused.at, paused.reason) == (at(10), "b")


@given(st.integers(0, 400), st.floats(0, 86_400), st.text("abcxyz._-", min_size=1, max_size=10))
def test_jitter_is_the_same_for_everybody_and_within_its_bound(n: int, jitter_s: float, name: str) -> None:
    schedule = made(Definition(name=name, task="t", every_s=60, jitter_s=jitter_s), BEGIN)
    drawn = jitter(schedule, at(60 * n))
    assert timedelta() <= drawn <= timedelta(seconds=jitter_s)
    assert drawn == jitter(msgspec.structs.replace(schedule, rev=9), at(60 * n))


def test_jitter_spreads_and_delays_each_run() -> None:
    schedule = minutely(jitter_s=30)
    drawn = {jitter(schedule, at(60 * n)) for n in range(1, 50)}
    assert len(drawn) > 45
    due = schedule.due_at
    assert due is not None
    assert due > at(60)
    assert plan(schedule, due - timedelta(milliseconds=1)).enqueue == ()
    assert plan(schedule, due).enqueue == (at(60),)


@given(
    st.lists(st.tuples(st.floats(-4000, 4000), st.booleans()), min_size=1, max_size=30),
    st.sampled_from(["last", "all"]),
    st.sampled_from([0.0, 90.0, 3600.0]),
)
def test_each_nominal_time_is_accounted_for_once_whatever_the_clock_does(
    moves: list[tuple[float, bool]], runs: Any, window: float
) -> None:
    """The clock is set by up to an hour either way; a leader may die after any of its writes."""
    schedule = minutely(catch_up_runs=runs, catch_up_s=window)
    now, jobs = BEGIN, dict[datetime, str]()
    for seconds, dies in moves:
        now += timedelta(seconds=seconds)
        for turn in range(20):
            if not schedule.pending:
                schedule = advanced(schedule, plan(schedule, now), now)
            for when in schedule.pending:
                jobs[when] = f"{when}"
            if dies and turn == 0:
                continue
            schedule = completed(schedule, {when: jobs[when] for when in schedule.pending}, [], now)
            if not is_due(schedule, now):
                break
    assert schedule.next_at is not None
    nominal = (schedule.next_at - at(60)) // timedelta(seconds=60)
    assert schedule.enqueued + schedule.missed + schedule.skipped == nominal
    assert schedule.enqueued == len(jobs)


def test_keys_sort_by_time_and_belong_to_one_schedule() -> None:
    keys = [key_of("a", at(n * 0.25)) for n in range(20)]
    assert keys == sorted(keys)
    assert all(key.startswith(prefix_of("a")) for key in keys)
    assert not key_of("a.b", BEGIN).startswith(prefix_of("a"))
    assert keys[0] == "schedule:a@2026-05-01T12:00:00.000Z"


def test_the_next_times_and_those_of_a_span() -> None:
    schedule = minutely()
    assert list(next_times(schedule, BEGIN, 2)) == [at(60), at(120)]
    assert list(next_times(schedule, at(300), 1)) == [at(360)]
    assert list(times_between(schedule, at(60), at(180))) == [at(60), at(120)]


# -- definitions


@pytest.mark.parametrize(
    ("fields", "field", "cure"),
    [
        ({"name": "a b"}, "name", "letters, digits"),
        ({"name": ""}, "name", "letters, digits"),
        ({"name": "x" * 101}, "name", "at most 100"),
        ({"every_s": None}, "cron", "neither"),
        ({"cron": "* * * * *"}, "cron", "both"),
        ({"every_s": 0.5}, "every_s", "from 1"),
        ({"every_s": float("nan")}, "every_s", "from 1"),
        ({"every_s": "10"}, "every_s", "number of seconds"),
        ({"overlap": "queue"}, "overlap", "allow, skip, queue_one, cancel_running"),
        ({"catch_up_s": -1}, "catch_up", "from 0"),
        ({"catch_up_runs": "both"}, "catch_up_runs", "last, all"),
        ({"jitter_s": 100_000}, "jitter_s", "86,400"),
        ({"every_s": 10**400}, "every_s", "from 1"),
        ({"every_s": -(10**400)}, "every_s", "from 1"),
        ({"every_s": float("inf")}, "every_s", "from 1"),
        ({"catch_up_s": 10**400}, "catch_up", "from 0"),
        ({"jitter_s": 10**400}, "jitter_s", "86,400"),
        ({"tz": "Mars"}, "tz", "Europe/Berlin"),
        ({"tz": None}, "tz", "Europe/Berlin"),
        ({"every_s": None, "cron": ["* * * * *"]}, "cron", "0 3 * * 1-5"),
    ],
)
def test_a_wrong_field_is_named_with_its_cure(fields: dict[str, Any], field: str, cure: str) -> None:
    with pytest.raises(InvalidSchedule) as error:
        check(Definition(**{"name": "s", "task": "t", "every_s": 60, **fields}))
    assert error.value.field == field
    assert cure in str(error.value)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("1h", 3600), ("2d", 172_800), (5, 5)])
def test_a_span_is_read(text: str | float, seconds: float) -> None:
    assert span_s("catch_up", text) == seconds


@pytest.mark.parametrize("text", ["", "1", "1w", "-1h", "h", None, True, "1 h", pytest.param(10**400, id="huge")])
def test_what_is_no_span_is_refused(text: Any) -> None:
    with pytest.raises(InvalidSchedule, match=r"catch_up is .*'15m'"):
        span_s("catch_up", text)


def test_another_payload_leaves_the_times_alone_and_other_times_begin_now() -> None:
    known = minutely()
    payload = redefined(known, msgspec.structs.replace(definition_of(known), payload={"a": 1}), at(30))
    assert (payload.next_at, payload.payload) == (at(60), {"a": 1})
    times = redefined(known, msgspec.structs.replace(definition_of(known), every_s=10), at(30))
    assert (times.next_at, times.anchor_at) == (at(40), at(30))
    jittered = redefined(known, msgspec.structs.replace(definition_of(known), jitter_s=30), at(30))
    assert jittered.due_at == at(60) + jitter(jittered, at(60))


def test_a_name_belongs_to_one_task_and_to_one_app() -> None:
    run_time = minutely()
    check_free(run_time, definition_of(run_time))
    with pytest.raises(ScheduleTaken, match="runs task 't' already"):
        check_free(run_time, msgspec.structs.replace(definition_of(run_time), task="u"))
    with pytest.raises(ScheduleTaken, match="made at run time"):
        effect_of(run_time, definition_of(run_time), "shop:queue", BEGIN)
    wanted = definition_of(run_time)
    declared = made(wanted, BEGIN, declaration(None, wanted, "shop:queue", BEGIN))
    with pytest.raises(ScheduleTaken, match="declared by shop:queue"):
        effect_of(declared, wanted, "other:queue", BEGIN)
    with pytest.raises(ScheduleTaken, match="in the code of shop:queue"):
        check_free(declared, wanted)


def test_two_versions_of_the_code_do_not_fight_and_a_rollback_gets_its_turn() -> None:
    old = definition_of(minutely())
    new = msgspec.structs.replace(old, payload={"v": 2})
    app = "shop:queue"
    assert effect_of(None, old, app, BEGIN) == "made"
    first = made(old, BEGIN, declaration(None, old, app, BEGIN))
    assert effect_of(first, old, app, at(1)) == "unchanged"
    assert effect_of(first, new, app, at(1)) == "changed"
    second = msgspec.structs.replace(redefined(first, new, at(1)), declared=declaration(first, new, app, at(1)))
    # A worker of the older version starts again during the deploy, after the newer ones.
    assert effect_of(second, old, app, at(2)) == "older"
    assert effect_of(second, old, app, at(2), force=True) == "changed"
    # Nobody has the newer one any more.
    assert effect_of(second, old, app, at(2 + ALIVE_S)) == "changed"
    third = msgspec.structs.replace(second, declared=declaration(second, old, app, at(400)))
    assert effect_of(third, new, app, at(401)) == "older"
    assert effect_of(third, old, app, at(401)) == "unchanged"
