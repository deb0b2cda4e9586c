"""The store's clock: MongoDB's time, continued by a monotonic clock."""

from datetime import UTC, datetime, timedelta

from dtqkit.store.clock import Clock, steady_s

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_it_goes_on_from_mongodbs_time_as_the_steady_clock_does() -> None:
    steady = iter([0.0, 100.0, 160.0])
    clock = Clock(lambda: next(steady))
    clock.set(NOON, (90.0, 110.0))  # its answer came in the middle
    assert clock.now() == NOON
    assert clock.now() == NOON + timedelta(seconds=60)


def test_its_time_is_in_whole_milliseconds() -> None:
    steady = iter([0.0, 0.0015])
    clock = Clock(lambda: next(steady))
    clock.set(NOON, (0.0, 0.0))
    assert clock.now() == NOON + timedelta(milliseconds=1)


def test_before_it_is_set_its_time_is_this_machines() -> None:
    assert abs(Clock().now() - datetime.now(UTC)) < timedelta(seconds=5)


def test_the_steady_clock_never_goes_back() -> None:
    assert steady_s() <= steady_s()
