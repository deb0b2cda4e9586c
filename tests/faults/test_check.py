"""The checker itself: a sound run passes, and each kind of corruption is named."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.faults.check import Evidence, violations
from tests.faults.ledger import parse

T0 = 1_700_000_000.0


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(T0 + seconds, UTC)


def attempt(number: int, ending: str, start: float, end: float, worker: str = "w1") -> dict[str, Any]:
    return {
        "number": number,
        "worker": worker,
        "queued_at": at(start),
        "claimed_at": at(start),
        "ended_at": at(end),
        "ending": ending,
    }


def document(n: int, status: str = "completed", token: int = 1, **fields: Any) -> dict[str, Any]:
    doc: dict[str, Any] = {
        "_id": f"job{n}",
        "payload": {"n": n},
        "status": status,
        "token": token,
        "rev": 5,
        "created_at": at(0),
        "claimed_at": at(30),
        "losses": 0,
        **fields,
    }
    if status == "completed":
        doc["result"] = token
    return doc


def sound() -> Evidence:
    """Job 1 completes at once, 2 loses its worker w2 at 20 s, 3 dies, 4 fails once, 5 is cancelled."""
    lines = [
        f"{what} job{n} {token} w {T0 + 1}"
        for n, token, whats in [
            (1, 1, ["start", "end"]),
            (2, 1, ["start"]),
            (2, 2, ["start", "end"]),
            (3, 1, ["start"]),
            (4, 1, ["start", "raise"]),
            (4, 2, ["start", "end"]),
        ]
        for what in whats
    ]
    return Evidence(
        accepted={1, 2, 3, 4},
        unknown={5, 6},
        documents=[
            document(1),
            document(2, token=2, earlier=[attempt(1, "lost", 5, 20, "w2")]),
            document(3, "failed", death_seq=1, earlier=[attempt(1, "lost", 5, 20, "w2")]),
            document(4, token=2, earlier=[attempt(1, "failed", 5, 6)]),
            document(5, "cancelled", token=0),
        ],
        dead_letters={"job3": 1},
        ledger=parse(lines),
        expected={3: {"failed"}, 5: {"cancelled"}},
        beats={"w1": [T0 + 2 * i for i in range(30)], "w2": [T0 + 2 * i for i in range(5)]},
        seen=[("job1", "pending", 1), ("job1", "completed", 5), ("job3", "failed", 5)],
    )


def test_a_sound_run_passes() -> None:
    assert violations(sound()) == []


def lost_from_a_worker_that_beat(e: Evidence) -> None:
    e.documents[1]["earlier"][0]["worker"] = "w1"


def a_claim_run_twice(e: Evidence) -> None:
    e.ledger += [entry for entry in e.ledger if entry.job == "job1"]


def due_later(e: Evidence) -> None:
    e.documents[3]["queued_at"] = at(30.001)


def set_fields(place: int, **fields: Any) -> Callable[[Evidence], None]:
    def corrupt(e: Evidence) -> None:
        e.documents[place].update(fields)

    return corrupt


CORRUPTIONS: list[tuple[str, Callable[[Evidence], object]]] = [
    ("I1", set_fields(0, status="pending")),
    ("I1", set_fields(0, status="running")),
    ("I1", set_fields(3, status="cancelled")),
    ("I2", lambda e: e.seen.append(("job1", "running", 6))),
    ("I2", lambda e: e.seen.append(("job3", "pending", 6))),
    ("I2", lambda e: e.seen.append(("job1", "completed", 4))),
    ("I3", a_claim_run_twice),
    ("I3", lambda e: e.ledger.extend(parse([f"start job1 2 w {T0}"]))),
    ("I3", lambda e: e.ledger.extend(parse([f"start job9 1 w {T0}"]))),
    ("I3", lambda e: e.ledger.remove(parse([f"end job2 2 w {T0 + 1}"])[0])),
    ("I3", set_fields(1, result=1)),
    ("I3", set_fields(1, earlier=[attempt(1, "lost", 5, 20, "w2"), attempt(1, "failed", 5, 20)])),
    ("I3", set_fields(0, earlier=[attempt(1, "failed", 5, 20)])),
    ("I3", set_fields(3, earlier=[attempt(1, "completed", 5, 6)])),
    ("I4", set_fields(4, token=7)),
    ("I4", set_fields(1, losses=4)),
    ("I5", lambda e: e.dead_letters.clear()),
    ("I5", lambda e: e.dead_letters.update(job1=1)),
    ("I5", lambda e: e.dead_letters.update(job3=2)),
    ("I6", due_later),
    ("I6", set_fields(3, earlier=[{**attempt(1, "failed", 5, 6), "queued_at": at(5.5)}])),
    ("I7", lambda e: e.documents.pop(0)),
    ("I7", lambda e: e.accepted.discard(1)),
    ("I7", lambda e: e.documents.append(copy.deepcopy(e.documents[0]))),
    ("J0", lost_from_a_worker_that_beat),
    ("J0", lambda e: e.beats.update(w2=[T0 + i for i in range(60)])),
]


@pytest.mark.parametrize(
    ("name", "corrupt"), CORRUPTIONS, ids=[f"{name}-{i}" for i, (name, _) in enumerate(CORRUPTIONS)]
)
def test_a_corrupted_run_is_detected(name: str, corrupt: Callable[[Evidence], object]) -> None:
    evidence = sound()
    corrupt(evidence)
    assert name in {line.split()[0] for line in violations(evidence)}
