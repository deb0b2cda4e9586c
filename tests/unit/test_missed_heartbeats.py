"""A worker is silent when its score stands still, by the watcher's clock and under the watcher's eyes."""

from __future__ import annotations

from dtqkit.recovery.heartbeats import MissedHeartbeats


def watched(*answers: tuple[float, dict[str, str]]) -> MissedHeartbeats:
    watch = MissedHeartbeats(silence_s=9.0, gap_s=3.0)
    for now, scores in answers:
        watch.observe(scores, now)
    return watch


def every_second(start: int, stop: int, scores: dict[str, str]) -> list[tuple[float, dict[str, str]]]:
    return [(float(second), scores) for second in range(start, stop)]


def test_a_score_that_stands_still_for_nine_seconds_is_silence() -> None:
    watch = watched(*every_second(0, 10, {"w": "5"}))
    assert watch.missing(8.9) == {}
    assert watch.missing(9.0) == {"w": "5"}


def test_any_change_of_the_score_restarts_the_count_also_backwards() -> None:
    for other in ("6", "4"):
        watch = watched(*every_second(0, 8, {"w": "5"}), *every_second(8, 16, {"w": other}))
        assert watch.missing(16.9) == {}
        assert watch.missing(17.0) == {"w": other}


def test_a_pause_of_the_watcher_or_of_redis_restarts_the_count() -> None:
    watch = watched(*every_second(0, 8, {"w": "5"}), *every_second(12, 20, {"w": "5"}))
    assert watch.missing(20.0) == {}


def test_a_worker_that_is_absent_is_unknown_and_not_dead() -> None:
    watch = watched(*every_second(0, 20, {"w": "5"}), (20.0, {}))
    assert watch.missing(20.0) == {}
    assert not watch.unchanged("w", "5")


def test_redis_that_is_away_for_a_minute_makes_nobody_silent() -> None:
    watch = watched(*every_second(0, 5, {"a": "1", "b": "1"}), (65.0, {"a": "1", "b": "1"}))
    assert watch.missing(65.0) == {}


def test_still_means_the_very_score() -> None:
    watch = watched((0.0, {"w": "5"}))
    assert watch.unchanged("w", "5")
    assert not watch.unchanged("w", "6")
