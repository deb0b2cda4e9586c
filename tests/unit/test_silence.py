"""A worker is silent when its score does not change while the watcher reads it, by the watcher's clock."""

from __future__ import annotations

from dtqkit.recovery.silence import Silence


def watched(*answers: tuple[float, dict[str, str]]) -> Silence:
    silence = Silence(silence_s=9.0, gap_s=3.0)
    for now, scores in answers:
        silence.observe(scores, now)
    return silence


def every_second(start: int, stop: int, scores: dict[str, str]) -> list[tuple[float, dict[str, str]]]:
    return [(float(second), scores) for second in range(start, stop)]


def test_a_score_that_is_unchanged_for_nine_seconds_is_silence() -> None:
    silence = watched(*every_second(0, 10, {"w": "5"}))
    assert silence.silent(8.9) == {}
    assert silence.silent(9.0) == {"w": "5"}


def test_any_change_of_the_score_restarts_the_count_also_backwards() -> None:
    for other in ("6", "4"):
        silence = watched(*every_second(0, 8, {"w": "5"}), *every_second(8, 16, {"w": other}))
        assert silence.silent(16.9) == {}
        assert silence.silent(17.0) == {"w": other}


def test_a_pause_of_the_watcher_or_of_redis_restarts_the_count() -> None:
    silence = watched(*every_second(0, 8, {"w": "5"}), *every_second(12, 20, {"w": "5"}))
    assert silence.silent(20.0) == {}


def test_a_worker_that_is_absent_is_unknown_and_not_dead() -> None:
    silence = watched(*every_second(0, 20, {"w": "5"}), (20.0, {}))
    assert silence.silent(20.0) == {}
    assert not silence.still("w", "5")


def test_no_worker_counts_as_silent_after_a_minute_without_redis() -> None:
    silence = watched(*every_second(0, 5, {"a": "1", "b": "1"}), (65.0, {"a": "1", "b": "1"}))
    assert silence.silent(65.0) == {}


def test_still_means_the_very_score() -> None:
    silence = watched((0.0, {"w": "5"}))
    assert silence.still("w", "5")
    assert not silence.still("w", "6")
