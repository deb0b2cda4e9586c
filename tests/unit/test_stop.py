"""Which signals are one request to stop, and which are a second one."""

from __future__ import annotations

from signal import SIGINT, SIGTERM

import pytest

from dtqkit.cli.stop import StopRequests


def answers(*signals: tuple[float, int], supervised: bool = False) -> list[str]:
    times = iter([at for at, _ in signals])
    requests = StopRequests(supervised=supervised, clock=lambda: next(times))
    return [requests.on(number) for _, number in signals]


@pytest.mark.parametrize(
    ("signals", "last"),
    [
        ([(0.0, SIGTERM), (4.9, SIGTERM)], "same"),  # the host's and the supervisor's
        ([(0.0, SIGINT), (0.5, SIGINT)], "same"),  # the terminal's and the parent's
        ([(0.0, SIGINT), (3.0, SIGTERM)], "same"),  # the terminal's and the supervisor's
        ([(0.0, SIGTERM), (3.0, SIGTERM), (4.0, SIGTERM)], "same"),
        ([(0.0, SIGTERM), (5.1, SIGTERM)], "at once"),
        ([(0.0, SIGINT), (1.5, SIGINT)], "at once"),
        ([(0.0, SIGTERM), (3.0, SIGTERM), (6.0, SIGTERM)], "at once"),
    ],
)
def test_signals_that_come_together_are_one_request(signals: list[tuple[float, int]], last: str) -> None:
    first, *_, final = answers(*signals)
    assert (first, final) == ("stop", last)


def test_a_supervised_process_leaves_it_to_its_supervisor_when_to_stop_at_once() -> None:
    assert answers((0.0, SIGTERM), (60.0, SIGTERM), supervised=True) == ["stop", "same"]
