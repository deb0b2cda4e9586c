"""The model of `reference` as a loop over a heap: the same log, job for job, several times as fast.

A heap entry is (time, place), with the place from `order`: it encodes the kind of event and the job or worker. Arrivals
are sorted already, so they stay out of the heap.
"""

import math
from collections import deque
from heapq import heapify, heappop, heappush, heapreplace
from itertools import count

import numpy as np

from dtqkit.capacity.draws import JITTER, LOSS_JITTER, Draws
from dtqkit.capacity.order import BITS, DETECTED, DOWN, DUE, END, LOOK, MASK, STARTED, UP, place
from dtqkit.capacity.simulation_log import FAILED, LOST, Row, SimulationLog, build, columns, completed
from dtqkit.capacity.system import Autoscale, Crashes, System
from dtqkit.model.policy import MAX_LOSS_BACKOFF_S, backoff_s

END_AT, DUE_AT, DETECTED_AT = place(END, 0), place(DUE, 0), place(DETECTED, 0)


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
        self.idle = [by_home[home] for home in homes]  #: by worker: (turn, worker) of the idle slots with its home
        self.idle_for = [[by_home[home] for home in by_home if lane in system.serves(home)] for lane in range(3)]
        self.turns = count()
        self.up = [True] * len(homes)
        self.on = [number < system.workers for number in range(len(homes))]
        self.ordered = 0
        self.ready = [0.0] * n
        self.start = [0.0] * n
        self.runs_on = [0] * n
        self.failures = [0] * n
        self.losses = [0] * n
        self.finished = [0.0] * n
        self.dead: list[int] = []
        self.lost_or_failed: list[Row] = []  #: completed attempts are in the lists above
        self.counts = [(0.0, system.workers)]
        self.claim_s, self.settle_s = system.latency.claim_s, system.latency.settle_s
        self.overhead_s = self.claim_s + self.settle_s
        self.service_of = draws.service

    def run(self) -> SimulationLog:
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
        finished = np.array(self.finished)
        completing = completed(self.ready, self.start, finished - self.settle_s, self.runs_on)
        completing = np.delete(completing, self.dead, axis=1)
        attempts = np.concatenate([completing, columns(self.lost_or_failed)], axis=1)
        return build(draws, attempts, self.dead, self.counts, finished=finished)

    def loop(self) -> None:
        """The main loop. `enter`, `free` and `begin` are inlined, because arrivals and ends are nearly all events."""
        heap, lane_of, lanes = self.heap, self.lane_of, self.lanes
        serves, idle, idle_for = self.serves, self.idle, self.idle_for
        ready, start, runs_on = self.ready, self.start, self.runs_on
        finished, failures = self.finished, self.failures
        submit_s, claim_s, overhead_s = self.system.latency.submit_s, self.claim_s, self.overhead_s
        may_fail, fails_at = self.draws.work.failure_probability > 0, self.draws.fails
        service, first_service, turns = self.service_of, self.draws.service(0), self.turns
        first_fails = fails_at(0) if may_fail else []
        arrivals = [*self.draws.arrivals.tolist(), math.inf]
        arriving, arrival = 0, arrivals[0]
        heappush(heap, (math.inf, 0))
        remaining = self.draws.n
        while remaining:
            worker = -1
            if heap[0][0] > arrival:
                job, now = arriving, arrival
                arriving += 1
                arrival = arrivals[arriving]
                if submit_s:
                    heappush(heap, (now + submit_s, DUE_AT + job))
                    continue
            else:
                now, event = heappop(heap)
                if event < DUE_AT:
                    job = event - END_AT
                    worker = runs_on[job]
                    if may_fail and (fails_at(failed) if (failed := failures[job]) else first_fails)[job]:
                        remaining -= self.failed(job, now)
                    else:
                        finished[job] = now
                        remaining -= 1
                    for lane in serves[worker]:
                        if lane:
                            job = lane.popleft()
                            break
                    else:
                        idle[worker].append((next(turns), worker))
                        continue
                elif event < DETECTED_AT:
                    job = event - DUE_AT
                else:
                    remaining -= self.other(now, event >> BITS, event & MASK)
                    continue
            if worker < 0:
                ready[job] = now
                longest = None
                for slots in idle_for[lane_of[job]]:
                    if slots and (longest is None or slots[0] < longest[0]):
                        longest = slots
                if longest is None:
                    lanes[lane_of[job]].append(job)
                    continue
                worker = longest.popleft()[1]
            start[job] = now + claim_s
            runs_on[job] = worker
            run_s = service(failed)[job] if (failed := failures[job]) else first_service[job]
            heappush(heap, (now + (overhead_s + run_s), END_AT + job))

    def enter(self, job: int, now: float) -> None:
        """Put the job into its lane, or give it to the slot that has been idle longest."""
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
        self.start[job] = now + self.claim_s
        self.runs_on[job] = worker
        heappush(self.heap, (now + (self.overhead_s + self.draws.service(self.failures[job])[job]), END_AT + job))

    # rare events; each returns the number of jobs that it finished

    def other(self, now: float, kind: int, number: int) -> int:
        crashes, autoscale = self.system.crashes, self.system.autoscale
        if kind == DETECTED and crashes:
            return self.lost(number, now, crashes)
        if kind == DOWN and crashes:
            self.down(number, now, crashes)
        elif kind == UP:
            self.up[number] = True
            heappush(self.heap, (now + next(self.clocks[number]), place(DOWN, number)))
            self.open(number, now)
        elif kind == LOOK and autoscale:
            self.look(now, autoscale)
        elif kind == STARTED:
            self.on[number] = True
            self.counts.append((now, sum(self.on)))
            self.open(number, now)
        return 0

    def failed(self, job: int, now: float) -> int:
        self.log(job, now - self.settle_s, FAILED)
        failures = self.failures[job] = self.failures[job] + 1
        retry = self.system.retry
        if failures >= retry.max_attempts:
            return self.dead_letter(job, now)
        delay_s = backoff_s(
            failures,
            self.draws.jitter(JITTER, failures, job),
            base_s=retry.backoff_s,
            factor=retry.factor,
            max_s=retry.max_backoff_s,
        )
        heappush(self.heap, (now + delay_s, DUE_AT + job))
        return 0

    def dead_letter(self, job: int, now: float) -> int:
        self.finished[job] = now
        self.dead.append(job)
        return 1

    def lost(self, job: int, now: float, crashes: Crashes) -> int:
        losses = self.losses[job] = self.losses[job] + 1
        if losses >= crashes.max_losses:
            return self.dead_letter(job, now)
        if losses == 1:
            self.enter(job, now)
        else:
            jitter = self.draws.jitter(LOSS_JITTER, losses, job)
            delay_s = backoff_s(losses - 1, jitter, max_s=MAX_LOSS_BACKOFF_S)
            heappush(self.heap, (now + delay_s, DUE_AT + job))
        return 0

    def down(self, worker: int, now: float, crashes: Crashes) -> None:
        self.up[worker] = False
        heappush(self.heap, (now + next(self.clocks[worker]), place(UP, worker)))
        self.forget_idle(worker)
        running = [
            event for _, event in self.heap if END_AT <= event < DUE_AT and self.runs_on[event - END_AT] == worker
        ]
        self.heap[:] = [entry for entry in self.heap if entry[1] not in running]
        heapify(self.heap)
        for event in running:
            self.start[event - END_AT] = min(self.start[event - END_AT], now)
            self.log(event - END_AT, now, LOST)
            heappush(self.heap, (now + crashes.detection_s, place(DETECTED, event - END_AT)))

    def log(self, job: int, end: float, outcome: int) -> None:
        self.lost_or_failed.append((job, self.ready[job], self.start[job], end, self.runs_on[job], outcome))

    def forget_idle(self, worker: int) -> None:
        idle = self.idle[worker]
        kept = [entry for entry in idle if entry[1] != worker]
        idle.clear()
        idle.extend(kept)

    def open(self, worker: int, now: float) -> None:
        if self.up[worker] and self.on[worker]:
            for _ in range(self.system.slots_per_worker):
                self.free(worker, now)

    def look(self, now: float, rule: Autoscale) -> None:
        heappush(self.heap, (now + rule.interval_s, place(LOOK, 0)))
        waiting, last = sum(map(len, self.lanes)), self.system.workers + self.ordered - 1
        if waiting > rule.threshold and last + 1 < len(self.on):
            heappush(self.heap, (now + rule.start_s, place(STARTED, last + 1)))
            self.ordered += 1
        elif not waiting and self.ordered and self.up[last] and self.on[last] and self.is_idle(last):
            self.forget_idle(last)
            self.on[last] = False
            self.ordered -= 1
            self.counts.append((now, sum(self.on)))

    def is_idle(self, worker: int) -> bool:
        return sum(other == worker for _, other in self.idle[worker]) == self.system.slots_per_worker


def is_plain(system: System, draws: Draws) -> bool:
    """Whether one queue before equal slots is enough: one lane in use, no failures, crashes, autoscaling or latency."""
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


def run_plain(system: System, draws: Draws) -> SimulationLog:
    """First come, first served: each job runs on the slot that is free first (Kiefer and Wolfowitz 1955)."""
    free_at = [(0.0, slot - system.servers, slot // system.slots_per_worker) for slot in range(system.servers)]
    starts: list[float] = []
    on: list[int] = []
    arrivals = draws.arrivals.tolist()
    for job, (arrival, run_s) in enumerate(zip(arrivals, draws.service(0), strict=True)):
        at, _, worker = free_at[0]
        start = max(arrival, at)
        heapreplace(free_at, (start + run_s, job, worker))
        starts.append(start)
        on.append(worker)
    end = np.array(starts) + np.array(draws.service(0))
    attempts = completed(draws.arrivals, starts, end, on)
    return build(draws, attempts, [], [(0.0, system.workers)], finished=end)


def run(system: System, draws: Draws) -> SimulationLog:
    """One replication."""
    return run_plain(system, draws) if is_plain(system, draws) else Engine(system, draws).run()
