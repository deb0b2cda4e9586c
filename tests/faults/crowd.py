"""Many processes submit one unique key at once, round after round: python -m tests.faults.crowd --rounds 100.

The stores are those of the environment, or private ones. Prints what each round found, as JSON; the exit status is 1
when a round has made more or fewer than one job, or when its answers differ from the record.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from multiprocessing.synchronize import Barrier
from typing import Any, Final

from pymongo import MongoClient

from dtqkit import DuplicateJob, Settings, StoreUnavailable, TaskQueue
from dtqkit.direct import DirectControl
from dtqkit.local import start_local_stores
from tests import sample

#: How the key of a round is unique.
HOW: Final[tuple[dict[str, Any], ...]] = (
    {"unique": "waiting"},
    {"unique": "active"},
    {"unique": "window", "unique_for_s": 3600},
    {"unique": "active", "on_duplicate": "raise"},
    {"debounce_s": 3600},
)
#: How long a process waits for the others, in seconds.
LATE_S: Final = 120.0

#: Imported before the processes are forked: it carries the drivers.
CONTROL: Final = DirectControl

#: Round, job, and whether the answer was a duplicate.
Answer = tuple[int, str, bool]


def submit(settings: Settings, rounds: int, start: Barrier, answers: Any) -> None:
    """One process: a submit in each round, at the same time as the others."""
    mine: list[Answer] = []
    try:
        with TaskQueue(settings) as queue:
            queue.include("tests.sample")
            connect(queue)
            for number in range(rounds):
                task = sample.add.options(unique_key=f"round {number}", wait_s=60, **HOW[number % len(HOW)])
                start.wait(LATE_S)
                try:
                    job = task.submit(os.getpid())
                    mine.append((number, job.id, job.was_duplicate))
                except DuplicateJob as error:
                    mine.append((number, error.job_id, True))
    except BaseException as error:
        start.abort()  # the others do not wait for this one
        answers.put(f"{type(error).__name__}: {error}")
    else:
        answers.put(mine)


def connect(queue: TaskQueue) -> None:
    """Many at once on a small machine take longer than one may."""
    until = time.monotonic() + LATE_S
    while True:
        try:
            queue.depths()
        except StoreUnavailable:
            if time.monotonic() > until:
                raise
        else:
            return


def crowd(settings: Settings, processes: int, rounds: int) -> dict[str, Any]:
    """What the rounds found: how many made one job, and the words for each that did not."""
    context = multiprocessing.get_context("fork")
    start, answers = context.Barrier(processes), context.Queue()
    began = time.monotonic()
    children = [context.Process(target=submit, args=(settings, rounds, start, answers)) for _ in range(processes)]
    for child in children:
        child.start()
    all_of_them = [answers.get(timeout=2 * LATE_S + rounds) for _ in children]
    for child in children:
        child.join()
    if failed := [one for one in all_of_them if isinstance(one, str)]:
        return {"processes": processes, "rounds": rounds, "wrong": failed[:3]}
    found: list[Answer] = [one for mine in all_of_them for one in mine]
    with MongoClient[dict[str, Any]](settings.atlas_uri) as mongo:
        stored = list(mongo[settings.database_name]["jobs"].find())
    wrong = [words for number in range(rounds) if (words := judge(number, processes, found, stored))]
    return {"processes": processes, "rounds": rounds, "wrong": wrong, "seconds": round(time.monotonic() - began, 1)}


def judge(number: int, processes: int, found: list[Answer], stored: list[dict[str, Any]]) -> str:
    """What is wrong with a round; empty: it has made one job, and every answer names that."""
    jobs = [doc for doc in stored if doc["unique_key"] == f"round {number}"]
    ids = Counter(job for one, job, _ in found if one == number)
    made = sum(not duplicate for one, _, duplicate in found if one == number)
    if len(jobs) != 1 or made != 1 or ids != {str(jobs[0]["_id"]): processes}:
        return f"round {number}: {len(jobs)} jobs, {made} of {processes} answers say that they made it, {ids}"
    if jobs[0].get("duplicates", 0) < processes - 1:  # more, where a submit was sent again
        return f"round {number}: {jobs[0].get('duplicates')} duplicates are counted"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--private", action="store_true", help="stores of its own")
    asked = parser.parse_args()
    settings = Settings.from_env(os.environ)
    if asked.private:
        with start_local_stores() as stores:
            own = settings.replace(redis_url=stores.redis_url, atlas_uri=stores.atlas_uri)
            result = crowd(own, asked.processes, asked.rounds)
    else:
        result = crowd(settings, asked.processes, asked.rounds)
    print(json.dumps(result))
    return 1 if result["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
