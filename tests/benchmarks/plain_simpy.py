"""The yardstick: the same system in SimPy, written the way its own documentation writes such models.

A process for each job, a PriorityResource for the slots, an interrupt for a crash, draws as they are needed.
It has the features of the real model (priorities, retries with backoff, dead letters, crashes with detection,
latency), but no lanes of their own, no helping and no log of attempts beyond the waits.
"""

import random
from collections.abc import Generator
from typing import Any

import simpy

Steps = Generator[simpy.Event, Any, None]


class PlainModel:
    def __init__(self, *, rate: float, mean_s: float, workers: int, horizon_s: float, seed: int) -> None:
        self.env = simpy.Environment()
        self.rng = random.Random(seed)
        self.slots = simpy.PriorityResource(self.env, capacity=workers)
        self.rate, self.mean_s, self.horizon_s = rate, mean_s, horizon_s
        self.running: dict[int, simpy.Process] = {}
        self.waits: dict[int, list[float]] = {0: [], 1: [], 2: []}
        self.sojourns: list[float] = []
        self.dead = 0
        self.env.process(self.arrivals())
        for _ in range(workers):
            self.env.process(self.crashes())

    def arrivals(self) -> Steps:
        number = 0
        while self.env.now < self.horizon_s:
            yield self.env.timeout(self.rng.expovariate(self.rate))
            lane = self.rng.choices((0, 1, 2), (0.1, 0.3, 0.6))[0]
            process = self.env.process(self.job(number, lane))
            self.running[number] = process
            number += 1

    def job(self, number: int, lane: int) -> Steps:
        submitted, failures, losses = self.env.now, 0, 0
        yield self.env.timeout(0.01)
        while True:
            ready = self.env.now
            try:
                with self.slots.request(priority=lane) as slot:
                    yield slot
                    yield self.env.timeout(0.01)
                    self.waits[lane].append(self.env.now - ready)
                    yield self.env.timeout(self.rng.lognormvariate(0, 0.83) * self.mean_s / 1.41)
                    yield self.env.timeout(0.01)
            except simpy.Interrupt:
                losses += 1
                if losses >= 3:
                    self.dead += 1
                    break
                yield self.env.timeout(15)
                continue
            if self.rng.random() >= 0.03:
                break
            failures += 1
            if failures >= 3:
                self.dead += 1
                break
            yield self.env.timeout(self.rng.random() * min(600, 2 ** (failures - 1)))
        del self.running[number]
        self.sojourns.append(self.env.now - submitted)

    def crashes(self) -> Steps:
        while self.env.now < self.horizon_s:
            yield self.env.timeout(self.rng.expovariate(1 / 21_600))
            with self.slots.request(priority=-1) as slot:
                yield slot
                yield self.env.timeout(self.rng.expovariate(1 / 60))

    def run(self) -> None:
        self.env.run()
