"""Every guard of the protocol, taken away in turn: either the model catches it, or something else heals what follows.

A guard that is caught has a trace, a shortest one. A guard that heals was taken away in every interleaving of its
scenario, and still no invariant broke and every state could recover: `why` says thanks to what. It is there because it
is quicker, or spares an attempt, or because two guards hold the same door (then the pair is in the table too).
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from tests.model.explore import Result, explore
from tests.model.scenarios import (
    REQUEUED,
    Build,
    changed_schedule,
    dead_letters,
    expiring,
    expiring_unserved,
    following,
    lanes,
    leader_lock,
    old_code,
    one_job,
    parents,
    parents_on_two_workers,
    pause_and_resume,
    paused_schedule,
    rebuild,
    schedule_that_queues_one,
    several,
    two_records,
    unique_active,
    unique_active_expiring,
    unique_replaced,
    unique_waiting,
    unique_waiting_expiring,
    unique_window,
)

Verdict = Literal["caught", "heals"]


class Row(NamedTuple):
    """One guard, or several that are only missed together."""

    guards: tuple[str, ...]
    build: Build
    verdict: Verdict
    #: What goes wrong, or what heals it.
    why: str

    @property
    def name(self) -> str:
        return " + ".join(self.guards)


def check(row: Row) -> Result:
    """Explore the row's scenario without its guards."""
    return explore(row.build(frozenset(row.guards)))


def verdict(result: Result) -> Verdict:
    return "heals" if result.problem is None else "caught"  # a start that is stuck has no steps


_ANY: Final = one_job()
_CANCELS: Final = one_job("cancel", "release", "task fails", at_most=2)
_OTHER_WORKER: Final = one_job(workers=2)
_KILLED_AND_FLUSHED: Final = one_job("redis content", "crash", at_most=2)
_REAPED: Final = one_job("cancel", "crash", at_most=2)
_LATE: Final = one_job("claim late", "claim lost", "crash", at_most=2)
_SILENT: Final = one_job("pause", "crash", "wedge", at_most=2)
_TWO_WORKERS: Final = one_job("pause", workers=2)
_TWO_LEADERS: Final = one_job("pause", leaders=2, at_most=2)
_LATE_FOR_SEVERAL: Final = several(at_most=1, max_losses=4)
_TWO_POISON: Final = several(jobs=3, poison=2)

TABLE: Final = (
    # -- 3 claim
    Row(("claim: status",), _ANY, "caught", "a job that is over, or another's, is claimed"),
    Row(("claim: due",), one_job("task fails", max_attempts=2), "caught", "a retry starts before its backoff is over"),
    Row(("claim: cancel",), _CANCELS, "heals",
        "nothing waits with a cancel asked for: settle and reap test it inside their writes"),
    Row(("claim: cancel", "settle: cancel inside the write"), _CANCELS, "caught", "a cancelled job runs"),
    Row(("find by claim: status",), _ANY, "caught", "trap 4: a job that was taken away in between is started"),
    Row(("find by claim: renew before start",), _ANY, "caught", "it starts under a lease that is over"),
    Row(("find by claim: not before maxTimeMS",), _LATE, "heals",
        "what the claim gets later is released by its worker, or its lease runs out"),
    Row(("find by claim: put back",), _LATE, "heals",
        "popped ids expire in flight and are swept to their lane: half a minute lost"),
    Row(("claim: find after any outcome",), _LATE_FOR_SEVERAL, "heals",
        "what it has got is released by its worker, or its lease runs out: 2 minutes lost"),
    Row(("claim: no more than the free slots",), _TWO_POISON, "heals",
        "more neighbours lose an attempt, but on its last chance each runs alone"),
    # -- 2 and 3 slots
    Row(("fetch: from behind what does not fit",), parents, "caught",
        "a parent holds the slot, and what it waits for stands behind another parent"),
    Row(("a waiting job lends its slot",), parents_on_two_workers, "caught",
        "every slot is held by a job that waits for another"),
    Row(("lent slot: only for what is waited for",), parents, "caught", "parents start parents, without bound"),
    Row(("decline: no attempt is used up",), old_code, "caught", "a job fails that never began"),
    # -- 3 jobs that lost a worker
    Row(("batch: losses 0 in the filter",), several(), "caught", "the poison job takes a good one along each time"),
    Row(("lost before: one at a time until it has run for a while",), several(max_losses=3), "heals",
        "more neighbours lose a second attempt, but on its last chance each runs alone"),
    Row(("last chance: runs alone",), _TWO_POISON, "caught", "it is started beside a poison job"),
    Row(("last chance: takes nothing else meanwhile",), _TWO_POISON, "caught", "a poison job is started beside it"),
    # -- 5 renew
    Row(("renew: status",), _ANY, "caught", "a completed job is written to"),
    Row(("renew: claim",), _TWO_WORKERS, "heals",
        "an old attempt keeps another's lease alive, but only until it ends, and its end is refused"),
    Row(("renew: no match",), _TWO_WORKERS, "heals", "the attempt runs on for nothing: its end is refused"),
    Row(("renew: after the beat",), _ANY, "caught",
        "it renews on waking, and is taken away before its first beat is read"),
    Row(("stop itself",), _ANY, "caught", "cut off from MongoDB, it runs on after its lease expired"),
    Row(("release what is not held",), _LATE, "heals", "taken on lease expiry: 3 minutes lost"),
    # -- 6 settle
    Row(("settle: claim",), _OTHER_WORKER, "caught", "a late result is recorded on a newer attempt"),
    Row(("settle: status",), _ANY, "caught", "a job that was failed meanwhile is changed by a late result"),
    Row(("settle: cancel inside the write",), _CANCELS, "heals",
        "the reconciler cancels what waits with a cancel asked for, and the claim refuses it"),
    Row(("settle: cancel inside the write", "reconcile: cancels"), _CANCELS, "caught",
        "trap 6: it waits with its cancel request forever"),
    Row(("settle: read back the ending",), _ANY, "caught",
        "its claim and any status but running are taken for success: it was lost"),
    # -- 8 beat
    Row(("worker id: new in each incarnation",), _ANY, "caught", "the new worker pays for the old one"),
    # -- 9a lease expiry
    Row(("lease expiry",), _KILLED_AND_FLUSHED, "caught",
        "killed and flushed at once: no one knows the worker, the job is running forever"),
    Row(("lease expiry: lease inside the write",), _ANY, "caught", "the lease was renewed since the find"),
    Row(("lease expiry: grace after MongoDB was away",), _ANY, "caught", "a kept outcome is not waited for"),
    Row(("reap: claim",), _TWO_LEADERS, "caught",
        "two leaders: the later attempt is taken by what was decided about the earlier one"),
    Row(("reap: status",), _ANY, "caught", "a completed job is taken for lost"),
    Row(("reap: cancel inside the write",), _REAPED, "heals", "as for settle: the reconciler cancels what waits"),
    Row(("reap: cancel inside the write", "reconcile: cancels"), _REAPED, "caught", "it waits forever, as above"),
    # -- 9b missed heartbeats
    Row(("missed heartbeats",), _SILENT, "heals", "taken on lease expiry: 3 minutes instead of 15 s"),
    Row(("missed heartbeats: absent is unknown",), _ANY, "caught", "trap 1: a flush makes all workers dead"),
    Row(("missed heartbeats: 9 s by the leader's own clock",), _ANY, "caught", "an old copy of Redis: all are dead"),
    Row(("missed heartbeats: a gap restarts the watch",), _ANY, "caught", "trap 2: no heartbeats while Redis was away"),
    Row(("missed heartbeats: read the score again",), _ANY, "caught", "it resumed and claimed before the find"),
    Row(("missed heartbeats: lease as found",), _ANY, "caught", "it resumed and renewed before the write"),
    Row(("forget: none runs",), _ANY, "heals", "its job is taken on lease expiry: 3 minutes instead of 15 s"),
    Row(("forget: still missing",), _ANY, "heals", "its next beat, 2 s later, lists it again"),
    # -- 10, 11 listing
    Row(("sweep",), _ANY, "caught", "what a dead worker has popped stays in flight"),
    Row(("move",), _ANY, "caught", "a retry is never due"),
    Row(("reconcile",), _ANY, "caught", "the push of a submit was lost"),
    Row(("reconcile: scores",), _ANY, "caught", "trap 11: listed, with a score that never comes"),
    Row(("reconcile: cancels",), _REAPED, "heals",
        "nothing waits with a cancel asked for: settle and reap test it inside their writes"),
    Row(("reconcile: counts",), lanes, "heals", "the full audit sees it too: 5 minutes instead of one"),
    Row(("reconcile: full audit",), lanes, "caught", "trap 11: one id too many and one too few, the counts are equal"),
    Row(("reconcile: keys of a wrong type",), lanes, "caught", "no command works on that lane any more"),
    # -- 3 and 11 expiry
    Row(("expiry: asked before the first run",), expiring, "caught", "a job is started after its time"),
    Row(("expiry: audit",), expiring_unserved, "caught", "where no worker serves it, it waits forever"),
    Row(("expiry: still waits, inside the write",), expiring, "heals",
        "what is claimed after it was found is too late for its worker too"),
    Row(("expiry: still no attempt, inside the write",), expiring, "heals", "as above: it never gets an attempt"),
    # -- 11 rebuild and lock
    Row(("epoch: set only under the mark",), rebuild, "caught", "flushed during the rebuild, and called rebuilt"),
    Row(("epoch: a nonce of its own",), rebuild, "caught", "a leader takes the other one's mark for its own"),
    Row(("rebuild: never delete a lane after the find",), rebuild, "caught", "a submit came in between"),
    Row(("lock: without a TTL is taken",), leader_lock, "caught", "there is never a leader"),
    Row(("lock: with a longer TTL is taken",), leader_lock, "caught", "no leader until it expires"),
    Row(("lock: of a wrong type is taken",), leader_lock, "caught", "there is never a leader"),
    Row(("lock: only one's own is released",), leader_lock, "heals", "the other takes it again; two leaders are safe"),
    # -- the record's identity
    Row(("record: looked at before a push",), two_records, "caught", "the owner's pop drops what it does not know"),
    Row(("record: looked at before a pop",), two_records, "caught", "the other environment's ids are dropped"),
    Row(("record: looked at by the leader",), two_records, "caught", "its audit drops the other environment's ids"),
    Row(("record: set with a push",), two_records, "caught", "both have pushed before anybody leads"),
    # -- 12 dead letters
    Row(("requeue: death_seq inside the write",), dead_letters, "caught", "it requeues a later failure"),
    Row(("requeue: claims never used twice",), REQUEUED, "caught",
        "trap 5: a late result from before the requeue is recorded after it"),
    Row(("dead letters: repaired by the leader",), dead_letters, "caught", "requeued, died before the delete"),
    Row(("dead letter: a later one is left",), dead_letters, "heals", "the leader's repair writes the right one"),
    Row(("dead letter: deleted with its death_seq",), dead_letters, "heals", "the leader's repair writes it again"),
    Row(("recovery: counted in the same write",), dead_letters, "caught", "the leader dies in between: it never ends"),
    Row(("recovery: runs alone",), several(jobs=3, recoveries=1), "heals",
        "each good neighbour can lose an attempt to it, and runs alone from then on"),
    # -- 17 follow-ups
    Row(("follow-up: recorded with the end",), following, "caught", "its worker dies before it records what follows"),
    Row(("follow-up: one id for an end",), following, "caught", "worker and leader submit the same one"),
    Row(("follow-up: audit",), following, "caught", "its worker dies before it submits what follows"),
    Row(("follow-up: cancel inside the write",), following, "caught", "a cancelled job is followed as a failed one"),
    Row(("follow-up: cleared by its end",), following, "caught", "requeued, it has failed again: that is cleared too"),
    # -- 13 cancel
    Row(("cancel: one update",), _CANCELS, "caught", "reports 'it is over' of a job that waits to run"),
    # -- 15 periodic
    Row(("tick: a key for each nominal time",), paused_schedule, "caught", "killed before it notes it: enqueued again"),
    Row(("tick: pending until it is enqueued",), paused_schedule, "caught", "killed: counted, and never enqueued"),
    Row(("tick: pending goes first",), paused_schedule, "caught", "the next decision drops what was not enqueued yet"),
    Row(("tick: rev inside the decision",), paused_schedule, "caught", "two leaders decide about one time"),
    Row(("tick: rev inside the end",), paused_schedule, "caught", "a late leader undoes another one's decision"),
    Row(("tick: a time follows from the one before",), paused_schedule, "caught", "a late leader leaves times out"),
    Row(("change: what is due goes first",), changed_schedule, "caught", "enqueued for both tasks"),
    Row(("pause: changes rev",), paused_schedule, "caught", "the leader's write takes the pause away"),
    Row(("queue_one: a run waits for the one before",), schedule_that_queues_one, "caught", "two runs at a time"),
    Row(("queue_one: what waits is looked at again",), schedule_that_queues_one, "caught", "it waits forever"),
    Row(("queue_one: what waits stays in the schedule",), schedule_that_queues_one, "caught", "it is lost"),
    # -- 18 unique jobs
    Row(("unique: the index decides",), unique_active, "caught", "two submits look at once, and both insert"),
    Row(("unique: a job's id is its own",), unique_waiting, "caught",
        "the reply is lost, the job starts, and the submit is sent again: it makes a second one"),
    Row(("unique: a job remembers who has replaced it",), unique_replaced, "caught",
        "the reply is lost, the job starts, and the replacement is sent again: it makes a second job"),
    Row(("unique: a job remembers all who have replaced it",), unique_replaced, "caught",
        "another submit replaces it before the job starts: then the first one makes a second job"),
    Row(("unique: freed by the claim",), unique_waiting, "heals", "the next submit sees that it has started"),
    Row(("unique: freed by the claim", "unique: the next submit frees a stale slot"), unique_waiting, "caught",
        "it is over, and holds the slot forever"),
    Row(("unique: freed by the end",), unique_active, "heals", "the next submit sees that it is over"),
    Row(("unique: freed by the end", "unique: the next submit frees a stale slot"), unique_active, "caught",
        "it is over, and holds the slot forever"),
    Row(("unique: the next submit frees a stale slot",), unique_replaced, "caught",
        "an older worker has started it and holds the slot: its payload is replaced, and never run"),
    Row(("unique: a retry goes on without its slot",), unique_waiting, "caught",
        "another job has the slot: the index refuses the write of its end"),
    Row(("unique: a slot is given back where it is free",), unique_waiting, "caught", "another job has taken it"),
    Row(("unique: a slot is given back to the same claim only",), unique_waiting, "heals",
        "a job that has started holds the slot until the next submit frees it"),
    Row(("unique: a requeue takes the slot again",), unique_active, "caught", "it runs beside the next job of its key"),
    Row(("unique: the end of a window inside the write",), unique_window, "caught",
        "two submits see that it is over; the second one frees what the first one has made"),
    Row(("unique: an expired job holds no slot",), unique_active_expiring, "caught",
        "until the audit drops it, submits are answered with a job that never runs"),
    Row(("unique: a retry keeps its slot however late it is",), unique_active_expiring, "caught",
        "it runs again beside the next job of its key"),
    Row(("unique: an expired job that is claimed is dropped",), unique_active_expiring, "caught",
        "its slot is free and taken by the next job: two of them run"),
    Row(("unique: a replacement expires by its own submit",), unique_waiting_expiring, "caught",
        "it is as late as the submit that it replaces, and never runs"),
    # -- 20 pauses
    Row(("claim: not what is paused",), pause_and_resume, "caught", "a worker starts what it knows to be paused"),
    Row(("park: only under the known version",), pause_and_resume, "heals",
        "the audit lists what was parked behind the resume: 5 minutes instead of two beats"),
    Row(("park: only under the known version", "audit: lists what is not paused"), pause_and_resume, "caught",
        "parked by a worker that does not know of the resume yet, and never listed again"),
    Row(("park: looks again",), pause_and_resume, "heals", "the audit lists it: 5 minutes"),
    Row(("park: looks again", "audit: lists what is not paused"), pause_and_resume, "caught",
        "its payload is changed out of the pause before it is parked: who changed it has found nothing to list"),
    Row(("resume: the leader lists what is parked",), pause_and_resume, "heals", "the audit does: 5 minutes"),
    Row(("resume: the leader lists what is parked", "audit: lists what is not paused"), pause_and_resume, "caught",
        "who resumes dies before it lists what was parked"),
    Row(("beat: reads the record every 150 beats",), pause_and_resume, "caught",
        "who resumes dies before it announces that: no worker looks again"),
    Row(("audit: lists what is not paused",), pause_and_resume, "heals",
        "who resumes lists it, or the leader does when the version has changed"),
    # -- 21 change of a waiting job
    Row(("update: status inside the write", "update: rev inside the write"), pause_and_resume, "caught",
        "it was claimed since it was read: a running job is changed"),
    Row(("update: status inside the write",), pause_and_resume, "heals", "a claim raises the revision, too"),
    Row(("update: rev inside the write",), pause_and_resume, "heals",
        "the status says whether it waits; of two changes at once, the later one stands"),
)  # fmt: skip

#: Contained in a scenario of every run, or (REQUEUED, _TWO_LEADERS) in one of `--deep`: too large for every run.
_CONTAINED: Final = (
    *(_ANY, _CANCELS, _REAPED, _KILLED_AND_FLUSHED, _OTHER_WORKER, _TWO_LEADERS, REQUEUED, _TWO_POISON),
    *(rebuild, leader_lock, two_records, dead_letters, lanes, parents, parents_on_two_workers, old_code),
    *(expiring, expiring_unserved, following, pause_and_resume, paused_schedule, changed_schedule),
    *(unique_waiting, unique_replaced, unique_active, unique_window),
    *(unique_waiting_expiring, unique_active_expiring, schedule_that_queues_one),
)
#: The other scenarios of rows that are caught: they must hold while the guards are there.
CONTROLS: Final = tuple(
    build for build in dict.fromkeys(row.build for row in TABLE if row.verdict == "caught") if build not in _CONTAINED
)
