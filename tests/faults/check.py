"""The checker: what was promised (I1 to I7 and J0), held against the ledger, the documents and the client's record.

Pure: evidence in, violations out, each as a line that begins with the name of what was broken.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from tests.faults.ledger import Entry

Document = dict[str, Any]

TERMINAL = ("completed", "failed", "cancelled")
#: Clock readings of two processes of one machine, and what lies between a decision and its write, in seconds.
SLACK_S = 0.25


@dataclass
class Evidence:
    """Everything that a run left behind. Jobs are known by the number `n` of their payload."""

    #: Numbers whose submit returned, and numbers of submits whose outcome the client does not know.
    accepted: set[int]
    unknown: set[int]
    documents: list[Document]
    #: Job id -> death_seq.
    dead_letters: dict[str, int]
    ledger: list[Entry]
    #: Statuses in which the job of a number may end; by default completed.
    expected: dict[int, set[str]] = field(default_factory=dict[int, set[str]])
    #: Worker id -> the scores (seconds) that were seen of it, ascending.
    beats: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    #: (job id, status, rev) as it was seen from time to time, in order.
    seen: list[tuple[str, str, int]] = field(default_factory=list[tuple[str, str, int]])
    #: Jobs that were requeued.
    requeued: set[str] = field(default_factory=set[str])
    silence_s: float = 9.0
    lease_s: float = 180.0
    #: Whether the run had its time to come to rest: I1 and I5 are promises for then.
    at_rest: bool = True


def violations(evidence: Evidence) -> list[str]:
    checks = (_i1, _i2, _i3, _i4, _i5, _i6, _i7, _j0)
    return [line for check in checks for line in check(evidence)]


def _number(doc: Document) -> int:
    return doc["payload"]["n"]


def _i1(e: Evidence) -> Iterator[str]:
    """Every accepted job is over, in a way that it may end."""
    if not e.at_rest:
        return
    for doc in e.documents:
        n = _number(doc)
        if n in e.accepted | e.unknown and doc["status"] not in TERMINAL:
            yield f"I1 job {n} is still {doc['status']}"
        elif doc["status"] not in e.expected.get(n, {"completed"}):
            error = doc.get("error", {}).get("message", "")
            yield f"I1 job {n} ended {doc['status']} ({error}), not {sorted(e.expected.get(n, {'completed'}))}"


def _i2(e: Evidence) -> Iterator[str]:
    """Completed and cancelled never change, failed only by a requeue; rev never falls."""
    last: dict[str, tuple[str, int]] = {}
    now = [(str(doc["_id"]), doc["status"], doc["rev"]) for doc in e.documents]
    for job, status, rev in [*e.seen, *now]:
        before, rev_before = last.get(job, ("", 0))
        if before in ("completed", "cancelled") and (status, rev) != (before, rev_before):
            yield f"I2 {job} was {before} and then {status}"
        if before == "failed" and status != "failed" and job not in e.requeued:
            yield f"I2 {job} was failed and then {status} without a requeue"
        if rev < rev_before:
            yield f"I2 {job} went from rev {rev_before} to {rev}"
        last[job] = (status, rev)


def _i3(e: Evidence) -> Iterator[str]:
    """One recorded completion, of an attempt that ran to its end; no claim after it; no claim runs twice."""
    starts = Counter((entry.job, entry.attempt) for entry in e.ledger if entry.what == "start")
    ends = {(entry.job, entry.attempt) for entry in e.ledger if entry.what == "end"}
    newest: dict[str, int] = defaultdict(int)
    for (job, number), times in starts.items():
        newest[job] = max(newest[job], number)
        if times > 1:
            yield f"I3 claim {number} of {job} was run {times} times"
    known = {str(doc["_id"]) for doc in e.documents}
    for job in newest.keys() - known:
        yield f"I3 {job} was run and is in no record"
    for doc in e.documents:
        job = str(doc["_id"])
        if newest[job] > doc["token"]:
            yield f"I3 {job} was claimed {newest[job]} times, and its token is {doc['token']}"
        earlier = [a["number"] for a in doc.get("earlier", ())]
        if len(set(earlier)) != len(earlier):
            yield f"I3 an attempt of {job} was recorded twice: {earlier}"
        if any(a["ending"] == "completed" for a in doc.get("earlier", ())):
            yield f"I3 {job} went on after an attempt that had completed"
        if doc["status"] == "completed":
            if (job, doc["token"]) not in ends:
                yield f"I3 {job} is completed by attempt {doc['token']}, which never came to its end"
            elif doc["result"] != doc["token"]:
                yield f"I3 {job} has the result of attempt {doc['result']}, and attempt {doc['token']} holds it"
            if doc["token"] in earlier:
                yield f"I3 the attempt that completed {job} had ended before"


def _i4(e: Evidence) -> Iterator[str]:
    """Attempts between two requeues are bounded."""
    for doc in e.documents:
        job = str(doc["_id"])
        runs = 1 + doc.get("death_seq", 0) + (job in e.requeued)
        released = sum(a["ending"] in ("released", "cancelled") for a in doc.get("earlier", ()))
        most = runs * (doc.get("max_attempts", 3) + doc.get("max_losses", 3)) + released
        if doc["token"] > most:
            yield f"I4 {job} was claimed {doc['token']} times, and {most} are the most"
        if doc.get("losses", 0) > doc.get("max_losses", 3):
            yield f"I4 {job} has {doc['losses']} losses without a requeue"


def _i5(e: Evidence) -> Iterator[str]:
    """The dead letters are the failed jobs."""
    failed = {str(doc["_id"]): doc.get("death_seq", 0) for doc in e.documents if doc["status"] == "failed"}
    if e.at_rest and failed != e.dead_letters:
        yield f"I5 failed {failed}, and the dead letters are {e.dead_letters}"


def _i6(e: Evidence) -> Iterator[str]:
    """No attempt before it was due."""
    for doc in e.documents:
        attempts = [(a["number"], a["queued_at"], a["claimed_at"]) for a in doc.get("earlier", ())]
        if doc["status"] == "completed":
            attempts.append((doc["token"], doc.get("queued_at", doc["created_at"]), doc["claimed_at"]))
        for number, due, started in attempts:
            first = number == 1 and due == doc["created_at"]
            # The client's reading of MongoDB's clock dates the submit; all else is MongoDB's own.
            if (started - due).total_seconds() < (-SLACK_S if first else 0.0):
                yield f"I6 attempt {number} of {doc['_id']} started at {started}, and was due at {due}"


def _i7(e: Evidence) -> Iterator[str]:
    """Accepted jobs are stored, and no others except those whose outcome was reported as unknown."""
    stored = Counter(_number(doc) for doc in e.documents)
    for n in sorted(e.accepted - stored.keys()):
        yield f"I7 job {n} was accepted and is not stored"
    for n in sorted(stored.keys() - e.accepted - e.unknown):
        yield f"I7 job {n} is stored and was never accepted"
    for n, times in stored.items():
        if times > 1:
            yield f"I7 job {n} is stored {times} times"


def _j0(e: Evidence) -> Iterator[str]:
    """No attempt was taken from a worker that missed no heartbeats and renewed its lease in time."""
    for doc in e.documents:
        for attempt in doc.get("earlier", ()):
            if attempt["ending"] != "lost":
                continue
            taken = _seconds(attempt["ended_at"])
            if taken - _seconds(attempt["claimed_at"]) >= e.lease_s - SLACK_S:
                continue  # on lease expiry
            longest = longest_pause(e.beats.get(attempt["worker"], []), taken, e.silence_s)
            if longest < 0.9 * e.silence_s - SLACK_S:
                yield (
                    f"J0 attempt {attempt['number']} of {doc['_id']} was taken from {attempt['worker']}, "
                    f"whose heartbeats paused for {longest:.2f} s at the most"
                )


def longest_pause(beats: list[float], until: float, silence_s: float) -> float:
    """The longest pause between two beats in the time before `until` in which a decision could fall, in seconds."""
    end = bisect_right(beats, until)
    start = bisect_right(beats, until - 3 * silence_s - 2.0)
    within = [*beats[max(0, start - 1) : end], until]
    if len(within) < 2:
        return float("inf") if not beats else until - beats[0]
    return max(later - earlier for earlier, later in pairwise(within))


def _seconds(when: datetime) -> float:
    return when.timestamp()
