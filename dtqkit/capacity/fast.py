"""The same model as `reference`, as a plain loop over a heap: job for job the same log, many times as fast.

A heap entry is (time, place in that instant's order); what it is about follows from the place. Arrivals are
already in order and stay out of the heap.
"""

import math
from collections import deque
from heapq import heapify, heappop, heappush, heapreplace
from itertools import count

from dtqkit.capacity.draws import FAILED, JITTER, LOSS_JITTER, LOST, OK, Draws, Log, replication_log
from dtqkit.capacity.order import BITS, DETECTED, DOWN, DUE, END, LOOK, MASK, STARTED, UP, place
from dtqkit.capacity.system import System
from dtqkit.lifecycle import backoff_s

LOSS_BACKOFF_MAX_S = 5.0

ENDS_BELOW = place(END + 1, 0)
END_AT, DUE_AT = place(END, 0), place(DUE, 0)


class Engine:
    """State of one replication. Lists are by job, by lane or by worker."""

    def __init__(self, system: System, draws: Draws) -> None:
        self.system, self.draws = system, draws
        n, homes = draws.n, system.homes
        self.heap: list[tuple[float, int]] = []
        self.lanes: list[deque[int]] = [deque(), deque(), deque()]
        self.lane_of: list[int] = draws.lanes.tolist()
        self.serves = [[self.lanes[lane] for lane in system.serves(home)] for home in homes]
        by_home: dict[str, deque[tuple[int, int]]] = {home: deque() for home in homes}
        self.idle = [by_home[home] for home in homes]  #: of a worker's home: (turn, worker) of idle slots
        self.idle_for = [[by_home[home] for home in by_home if lane in system.serves(home)] for lane in range(3)]
        self.turns = count()
        self.up = [True] * len(homes)
        self.on = [number < system.workers for number in range(len(homes))]
        self.ordered = 0
        self.ready = [0.0] * n
        self.start = [0.0] * n
        self.ends = [-1.0] * n  #: when the running attempt ends; an END event at another time is stale
        self.runs_on = [0] * n
        self.attempts = [0] * n
        self.failures = [0] * n
        self.losses = [0] * n
        self.finished = [0.0] * n
        self.dead: list[int] = []
        self.rows: tuple[list[int], list[float], list[float], list[float], list[int], list[int]]
        self.rows = ([], [], [], [], [], [])
        self.counts = [(0.0, system.workers)]
        self.claim_s, self.settle_s = system.latency.claim_s, system.latency.settle_s
        self.overhead_s = self.claim_s + self.settle_s
        self.service = [draws.service(0)]

    def run(self) -> Log:
        system, draws = self.system, self.draws
        if crashes := system.crashes:
            clocks = [draws.crashes(w, crashes.mtbf_s, crashes.mttr_s) for w in range(len(self.on))]
            self.clocks = [(number for pair in clock for number in pair) for clock in clocks]
            for worker, clock in enumerate(self.clocks):
                heappush(self.heap, (next(clock), place(DOWN, worker)))
        if system.autoscale:
            heappush(self.heap, (system.autoscale.interval_s, place(LOOK, 0)))
        for worker, on in enumerate(self.on):
            for _ in range(system.slots_per_worker if on else 0):
                self.free(worker, 0.0)
        self.loop()
        return replication_log(draws, self.finished, self.dead, self.rows, self.counts)

    def loop(self) -> None:
        """Arrivals and ends, the two that make up nearly all of a day."""
        heap, enter, free, ends, finished = self.heap, self.enter, self.free, self.ends, self.finished
        ready, start, runs_on, settle_s = self.ready, self.start, self.runs_on, self.settle_s
        submit_s, fails_at = self.system.latency.submit_s, self.draws.fails
        job_row, ready_row, start_row, end_row, worker_row, outcome_row = (rows.append for rows in self.rows)
        arrivals = iter(enumerate(self.draws.arrivals.tolist()))
        nothing = (-1, math.inf)
        arriving, arrival = next(arrivals, nothing)
        remaining = self.draws.n
        while remaining:
            if not heap or heap[0][0] > arrival:
                if submit_s:
                    heappush(heap, (arrival + submit_s, DUE_AT + arriving))
                else:
                    enter(arriving, arrival)
                arriving, arrival = next(arrivals, nothing)
                continue
            now, event = heappop(heap)
            if event >= ENDS_BELOW:
                remaining -= self.other(now, event >> BITS, event & MASK)
                continue
            job = event - END_AT
            if ends[job] != now:
                continue
            ends[job] = -1.0
            worker = runs_on[job]
            failed = fails_at(self.attempts[job] - 1)[job]
            job_row(job)
            ready_row(ready[job])
            start_row(start[job])
            end_row(now - settle_s)
            worker_row(worker)
            outcome_row(FAILED if failed else OK)
            if failed:
                remaining -= self.failed(job, now)
            else:
                finished[job] = now
                remaining -= 1
            free(worker, now)

    def enter(self, job: int, now: float) -> None:
        """Into its lane, or straight to the slot that has been idle longest."""
        self.ready[job] = now
        lane = self.lane_of[job]
        longest = None
        for slots in self.idle_for[lane]:
            if slots and (longest is None or slots[0] < longest[0]):
                longest = slots
        if longest is None:
            self.lanes[lane].append(job)
        else:
            self.begin(job, longest.popleft()[1], now)

    def free(self, worker: int, now: float) -> None:
        """A slot of that worker takes its next job, or becomes idle."""
        for lane in self.serves[worker]:
            if lane:
                self.begin(lane.popleft(), worker, now)
                return
        self.idle[worker].append((next(self.turns), worker))

    def begin(self, job: int, worker: int, now: float) -> None:
        attempt = self.attempts[job]
        self.attempts[job] = attempt + 1
        if attempt == len(self.service):
            self.service.append(self.draws.service(attempt))
        self.start[job] = now + self.claim_s
        self.runs_on[job] = worker
        end = now + (self.overhead_s + self.service[attempt][job])
        self.ends[job] = end
        heappush(self.heap, (end, END_AT + job))

    # what is rare; each says how many jobs it finished

    def other(self, now: float, kind: int, number: int) -> int:
        if kind == DUE:
            self.enter(number, now)
        elif kind == DETECTED:
            return self.lost(number, now)
        elif kind == DOWN:
            self.down(number, now)
        elif kind == UP:
            self.up[number] = True
            heappush(self.heap, (now + next(self.clocks[number]), place(DOWN, number)))
            self.open(number, now)
        elif kind == LOOK:
            self.look(now)
        elif kind == STARTED:
            self.on[number] = True
            self.counts.append((now, sum(self.on)))
            self.open(number, now)
        return 0

    def failed(self, job: int, now: float) -> int:
        failures = self.failures[job] = self.failures[job] + 1
        retry = self.system.retry
        if failures >= retry.max_attempts:
            return self.bury(job, now)
        delay_s = backoff_s(
            failures,
            self.draws.jitter(JITTER, failures, job),
            base_s=retry.backoff_s,
            factor=retry.factor,
            max_s=retry.max_backoff_s,
        )
        heappush(self.heap, (now + delay_s, DUE_AT + job))
        return 0

    def bury(self, job: int, now: float) -> int:
        self.finished[job] = now
        self.dead.append(job)
        return 1

    def lost(self, job: int, now: float) -> int:
        losses = self.losses[job] = self.losses[job] + 1
        assert self.system.crashes is not None
        if losses >= self.system.crashes.max_losses:
            return self.bury(job, now)
        if losses == 1:
            self.enter(job, now)
        else:
            jitter = self.draws.jitter(LOSS_JITTER, losses, job)
            delay_s = backoff_s(losses - 1, jitter, max_s=LOSS_BACKOFF_MAX_S)
            heappush(self.heap, (now + delay_s, DUE_AT + job))
        return 0

    def down(self, worker: int, now: float) -> None:
        assert self.system.crashes is not None
        self.up[worker] = False
        heappush(self.heap, (now + next(self.clocks[worker]), place(UP, worker)))
        self.forget_idle(worker)
        for job in sorted(event - END_AT for at, event in self.heap if self._runs(event, at, worker)):
            self.ends[job] = -1.0
            outcome = (job, self.ready[job], min(self.start[job], now), now, worker, LOST)
            for column, value in zip(self.rows, outcome, strict=True):
                column.append(value)  # pyright: ignore[reportArgumentType] - six columns of two types
            heappush(self.heap, (now + self.system.crashes.detection_s, place(DETECTED, job)))

    def _runs(self, event: int, at: float, worker: int) -> bool:
        return event < ENDS_BELOW and self.runs_on[event - END_AT] == worker and self.ends[event - END_AT] == at

    def forget_idle(self, worker: int) -> None:
        idle = self.idle[worker]
        kept = [entry for entry in idle if entry[1] != worker]
        idle.clear()
        idle.extend(kept)

    def open(self, worker: int, now: float) -> None:
        if self.up[worker] and self.on[worker]:
            for _ in range(self.system.slots_per_worker):
                self.free(worker, now)

    def look(self, now: float) -> None:
        rule = self.system.autoscale
        assert rule is not None
        heappush(self.heap, (now + rule.interval_s, place(LOOK, 0)))
        waiting, last = sum(map(len, self.lanes)), self.system.workers + self.ordered - 1
        if waiting > rule.threshold and last + 1 < len(self.on):
            heappush(self.heap, (now + rule.start_s, place(STARTED, last + 1)))
            self.ordered += 1
        elif not waiting and self.ordered and self.up[last] and self.on[last]:
            if sum(worker == last for _, worker in self.idle[last]) == self.system.slots_per_worker:
                self.forget_idle(last)
                self.on[last] = False
                self.ordered -= 1
                self.counts.append((now, sum(self.on)))


def is_plain(system: System, draws: Draws) -> bool:
    """One line of jobs before equal slots, and nothing that goes wrong."""
    used = {int(lane) for lane in set(draws.lanes.tolist())}
    alike = all(used <= set(system.serves(home)) for home in system.homes)
    return (
        len(used) <= 1
        and alike
        and system.crashes is None
        and system.autoscale is None
        and not draws.work.failure_probability
        and not any((system.latency.submit_s, system.latency.claim_s, system.latency.settle_s))
    )


def run_plain(system: System, draws: Draws) -> Log:
    """First come, first served: each job goes to the slot that is free first (Kiefer and Wolfowitz)."""
    slots = [(0.0, -1 - i) for i in reversed(range(system.servers))]
    heapify(slots)
    workers = [slot // system.slots_per_worker for slot in range(system.servers)]
    raise NotImplementedError(slots, workers, heapreplace)


def run(system: System, draws: Draws) -> Log:
    """One replication."""
    return run_plain(system, draws) if is_plain(system, draws) else Engine(system, draws).run()
