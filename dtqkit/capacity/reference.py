"""The model in SimPy, written to be read: one process for each slot of a worker. Tests compare the fast engine with it.

- A job enters its lane. If slots that serve the lane are idle, the one that has been idle longest takes the job at once
  (as Redis serves the client that has blocked longest).
- A slot that becomes free takes a job of its own lane first and then, if the worker helps, of the others by priority.
- A failed attempt returns to the end of its lane after a backoff with full jitter, or the job becomes a dead letter.
- A crash ends the attempts on all slots of the worker. When it is detected, the jobs are re-queued: at once after a
  job's first crash, then with a backoff of at most 5 s. After `max_losses` crashes a job becomes a dead letter. An
  attempt repeated after a crash takes as long again; one repeated after a failure takes a newly drawn time.
"""

from collections import deque
from collections.abc import Generator
from itertools import count
from typing import Any, cast

import numpy as np
import simpy
from simpy.events import EventCallbacks, EventPriority

from dtqkit.capacity.draws import JITTER, LOSS_JITTER, Draws
from dtqkit.capacity.order import ARRIVAL, DETECTED, DOWN, DUE, END, LOOK, STARTED, UP, place
from dtqkit.capacity.simulation_log import FAILED, LOST, OK, Row, SimulationLog, build, columns
from dtqkit.capacity.system import Autoscale, Crashes, System
from dtqkit.model.policy import MAX_LOSS_BACKOFF_S, backoff_s

NONE = -1
END_AT, ARRIVAL_AT = place(END, 0), place(ARRIVAL, 0)

Steps = Generator[simpy.Event, Any, None]


class OrderedTimeout(simpy.Event):
    """A timeout with a place among the events at the same time (`order`)."""

    def __init__(self, env: simpy.Environment, delay_s: float, order: int) -> None:
        self.env = env
        self.callbacks: EventCallbacks = []
        self._ok, self._value = True, None
        env.schedule(self, cast(EventPriority, order), delay_s)


class ModelWorker:
    """A worker: up or down (crashes), on or off (autoscaling). Its slots are processes."""

    def __init__(self, env: simpy.Environment, number: int, home: str, lanes: list[deque[int]], on: bool) -> None:
        self.number, self.home, self.lanes = number, home, lanes
        self.up, self.on = True, on
        self.opened = env.event()
        self.slots: list[Slot] = []

    @property
    def serving(self) -> bool:
        return self.up and self.on

    def open_if_serving(self, env: simpy.Environment) -> None:
        if self.serving:
            self.opened.succeed()
            self.opened = env.event()


class Slot:
    """Place for one job at a time."""

    def __init__(self, worker: ModelWorker) -> None:
        self.worker = worker
        self.idle_since = -1
        self.given: simpy.Event
        self.process: simpy.Process


class Model:
    """State of one replication. Lists are by job or by lane."""

    def __init__(self, system: System, draws: Draws) -> None:
        self.env = simpy.Environment()
        self.system, self.draws = system, draws
        self.overhead_s = system.latency.claim_s + system.latency.settle_s
        self.lanes: list[deque[int]] = [deque(), deque(), deque()]
        self.lane_of: list[int] = draws.lanes.tolist()
        self.idle: dict[str, deque[Slot]] = {home: deque() for home in dict.fromkeys(system.homes)}
        self.idle_for: list[list[deque[Slot]]] = [
            [self.idle[home] for home in self.idle if lane in system.serves(home)] for lane in range(3)
        ]
        self.turns = count()
        self.ready = [0.0] * draws.n
        self.failures = [0] * draws.n
        self.losses = [0] * draws.n
        self.finished = [0.0] * draws.n
        self.dead: list[int] = []
        self.remaining = draws.n
        self.all_done = self.env.event()
        self.rows: list[Row] = []
        self.counts = [(0.0, system.workers)]
        self.workers = [self._worker(number, home) for number, home in enumerate(system.homes)]

    def _worker(self, number: int, home: str) -> ModelWorker:
        lanes = [self.lanes[lane] for lane in self.system.serves(home)]
        worker = ModelWorker(self.env, number, home, lanes, on=number < self.system.workers)
        for _ in range(self.system.slots_per_worker):
            slot = Slot(worker)
            slot.process = self.env.process(self.slot(slot))
            worker.slots.append(slot)
        if self.system.crashes:
            self.env.process(self.crashes(worker, self.system.crashes))
        return worker

    def run(self) -> SimulationLog:
        self.env.process(self.arrivals())
        if self.system.autoscale:
            self.env.process(self.autoscale(self.system.autoscale))
        if self.remaining:
            self.env.run(until=self.all_done)
        finished = np.array(self.finished)
        return build(self.draws, columns(self.rows), self.dead, self.counts, finished=finished)

    # jobs

    def arrivals(self) -> Steps:
        submit_s = self.system.latency.submit_s
        for job, gap_s in enumerate(self.draws.gaps):
            yield OrderedTimeout(self.env, gap_s, ARRIVAL_AT + job)
            if submit_s:
                self.env.process(self.enter_later(job, submit_s))
            else:
                self.enter(job)

    def enter_later(self, job: int, delay_s: float) -> Steps:
        yield OrderedTimeout(self.env, delay_s, place(DUE, job))
        self.enter(job)

    def enter(self, job: int) -> None:
        """Put the job into its lane, or give it to the slot that has been idle longest."""
        self.ready[job] = self.env.now
        waiting = [slots for slots in self.idle_for[self.lane_of[job]] if slots]
        if waiting:
            longest = min(waiting, key=lambda slots: slots[0].idle_since)
            longest.popleft().given.succeed(job)
        else:
            self.lanes[self.lane_of[job]].append(job)

    def failed(self, job: int) -> None:
        self.failures[job] += 1
        retry = self.system.retry
        if self.failures[job] >= retry.max_attempts:
            self.finish(job, dead=True)
            return
        delay_s = backoff_s(
            self.failures[job],
            self.draws.jitter(JITTER, self.failures[job], job),
            base_s=retry.backoff_s,
            factor=retry.factor,
            max_s=retry.max_backoff_s,
        )
        self.env.process(self.enter_later(job, delay_s))

    def detected(self, job: int, crashes: Crashes) -> Steps:
        """After detection of the crash: back to the lane, or a dead letter."""
        yield OrderedTimeout(self.env, crashes.detection_s, place(DETECTED, job))
        self.losses[job] += 1
        if self.losses[job] >= crashes.max_losses:
            self.finish(job, dead=True)
            return
        if self.losses[job] > 1:
            jitter = self.draws.jitter(LOSS_JITTER, self.losses[job], job)
            delay_s = backoff_s(self.losses[job] - 1, jitter, max_s=MAX_LOSS_BACKOFF_S)
            yield OrderedTimeout(self.env, delay_s, place(DUE, job))
        self.enter(job)

    def finish(self, job: int, *, dead: bool = False) -> None:
        self.finished[job] = self.env.now
        if dead:
            self.dead.append(job)
        self.remaining -= 1
        if not self.remaining:
            self.all_done.succeed()

    # workers

    def slot(self, slot: Slot) -> Steps:
        """Take a job, run it, repeat. After an interrupt (crash or switch-off), wait until the worker serves again."""
        worker, env, claim_s = slot.worker, self.env, self.system.latency.claim_s
        job, start = NONE, 0.0
        while True:
            try:
                while not worker.serving:
                    yield worker.opened
                job = NONE
                for lane in worker.lanes:
                    if lane:
                        job = lane.popleft()
                        break
                else:
                    slot.given, slot.idle_since = simpy.Event(env), next(self.turns)
                    self.idle[worker.home].append(slot)
                    job = yield slot.given
                start = env.now + claim_s
                run_s = self.draws.service(self.failures[job])[job]
                yield OrderedTimeout(env, self.overhead_s + run_s, END_AT + job)
                self.ended(job, start, worker)
            except simpy.Interrupt:
                if job != NONE and self.system.crashes:
                    self.lost(job, start, worker, self.system.crashes)

    def ended(self, job: int, start: float, worker: ModelWorker) -> None:
        fails = self.draws.fails(self.failures[job])[job]
        end = self.env.now - self.system.latency.settle_s
        self.rows.append((job, self.ready[job], start, end, worker.number, FAILED if fails else OK))
        if fails:
            self.failed(job)
        else:
            self.finish(job)

    def lost(self, job: int, start: float, worker: ModelWorker, crashes: Crashes) -> None:
        now = self.env.now
        self.rows.append((job, self.ready[job], min(start, now), now, worker.number, LOST))
        self.env.process(self.detected(job, crashes))

    def stop(self, worker: ModelWorker) -> None:
        """Interrupt all slots of the worker: their attempts end, and idle slots get no more jobs."""
        for slot in worker.slots:
            if slot in self.idle[worker.home]:
                self.idle[worker.home].remove(slot)
            slot.process.interrupt()

    def crashes(self, worker: ModelWorker, crashes: Crashes) -> Steps:
        for up_s, down_s in self.draws.crashes(worker.number, crashes.mtbf_s, crashes.mttr_s):
            yield OrderedTimeout(self.env, up_s, place(DOWN, worker.number))
            if worker.serving:
                self.stop(worker)
            worker.up = False
            yield OrderedTimeout(self.env, down_s, place(UP, worker.number))
            worker.up = True
            worker.open_if_serving(self.env)

    def autoscale(self, rule: Autoscale) -> Steps:
        extra, ordered = self.workers[self.system.workers :], 0
        while True:
            yield OrderedTimeout(self.env, rule.interval_s, place(LOOK, 0))
            waiting = sum(len(lane) for lane in self.lanes)
            if waiting > rule.threshold and ordered < len(extra):
                self.env.process(self.switch_on(extra[ordered], rule.start_s))
                ordered += 1
            elif not waiting and ordered:
                last = extra[ordered - 1]
                if last.serving and all(slot in self.idle[last.home] for slot in last.slots):
                    self.stop(last)
                    last.on = False
                    ordered -= 1
                    self.count_workers()

    def switch_on(self, worker: ModelWorker, delay_s: float) -> Steps:
        yield OrderedTimeout(self.env, delay_s, place(STARTED, worker.number))
        worker.on = True
        self.count_workers()
        worker.open_if_serving(self.env)

    def count_workers(self) -> None:
        self.counts.append((self.env.now, sum(worker.on for worker in self.workers)))


def run(system: System, draws: Draws) -> SimulationLog:
    """One replication."""
    return Model(system, draws).run()
