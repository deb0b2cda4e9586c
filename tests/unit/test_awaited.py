"""Looks at what running jobs wait for: bounded, in turn, and seldom while there is nothing to start."""

from __future__ import annotations

from bson import ObjectId

from dtqkit.worker.awaited import LOOK, MAX_PAUSE_S, Awaited

MANY = [ObjectId() for _ in range(5_000)]


def test_each_awaited_job_comes_in_turn_and_a_look_is_bounded() -> None:
    looks, now = Awaited(), 100.0
    seen: list[ObjectId] = []
    for _ in range(len(MANY) // LOOK + 1):
        ids = looks.next(MANY, 8)
        assert len(ids) <= LOOK
        seen += ids
        looks.looked(now, ids, (), (), 0)
    assert seen == MANY
    assert looks.next(MANY, 8) == MANY[:LOOK]


def test_what_is_over_is_looked_at_no_more_and_nothing_is_left_out() -> None:
    looks, now = Awaited(), 100.0
    over = set(MANY[::2])
    seen: list[ObjectId] = []
    for _ in range(2 * len(MANY) // LOOK):
        ids = looks.next(MANY, 8)
        looks.looked(now, ids, [job for job in ids if job in over], (), 0)
        seen += ids
    assert set(seen) == set(MANY)
    assert not set(looks.next(MANY, 8)) & over
    # Waited for again, by another job, it is looked at once more
    looks.next(MANY[1::2], 8)
    assert set(looks.next(MANY[:4], 8)) == set(MANY[:4])


def test_what_could_be_started_and_was_not_comes_first() -> None:
    looks, now = Awaited(), 100.0
    ids = looks.next(MANY, 2)
    looks.looked(now, ids, (), ids[:100], 2)  # there were two slots
    assert looks.next(MANY[2:], 2) == ids[2:4]
    looks.looked(now, ids[2:4], (), ids[2:4], 2)
    # What is not waited for any more is left alone
    assert looks.next([job for job in MANY if job not in ids[:6]], 3) == ids[6:9]
    looks.looked(now, ids[6:9], (), (), 0)
    assert looks.next(MANY, 2) == ids[9:11]


def test_looks_that_start_nothing_become_seldom_until_something_happens() -> None:
    looks, now = Awaited(), 100.0
    pauses: list[float] = []
    for _ in range(8):
        looks.looked(now, (), (), (), 0)
        pauses.append(looks.wait_s(now))
    assert pauses == sorted(pauses)
    assert pauses[-1] == MAX_PAUSE_S
    looks.soon()
    assert looks.wait_s(now) == 0
    looks.looked(now, (), (), (), 1)
    assert looks.wait_s(now) == 0
