"""A program that closes nothing ends nevertheless, and soon."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack

import pytest

from dtqkit import TaskQueue
from tests.command import ROOT, environment
from tests.serving import READ_TOKEN, TOKEN, Server
from tests.workers import Workers

USED = "queue.include('tests.sample')\nfrom tests.sample import add\nprint(len(queue.jobs().items))\nadd.submit(1, 2)\n"
HEAD = "import time\nfrom dtqkit import TaskQueue\n"
PROGRAMS = {
    "of the stores": "queue = TaskQueue()\n" + USED,
    "of its own": "queue = TaskQueue.local(workers=1)\n" + USED,
    "of a server that is not there": "queue = TaskQueue.connect('http://127.0.0.1:9', token='t' * 32)\n" + USED,
    "of a server": "queue = TaskQueue.connect('{http}', token='{token}')\n" + USED,
    "closed by a handler that was there first": "queue = TaskQueue()\n" + USED,
    "several": "more = [TaskQueue() for _ in range(5)]\n[one.depths() for one in more]\nqueue = TaskQueue()\n" + USED,
    "blocked": (
        "import asyncio, time\nqueue = TaskQueue()\n" + USED + "async def block(): time.sleep(60)\n"
        "queue.start(block())\n"
    ),
    "forked": "import os\nqueue = TaskQueue()\n" + USED + "child = os.fork()\nif child: os.waitpid(child, 0)\n",
}


@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_program_whose_queue_is_not_closed_ends(kind: str, queue: TaskQueue) -> None:
    with ExitStack() as stack:
        http = ""
        if kind == "of a server":
            queue.include("tests.sample")
            stack.enter_context(Workers(queue)).stop()  # which publish their tasks
            settings = queue.settings.replace(port=0, ws_port=0, token=TOKEN, read_token=READ_TOKEN)
            http = stack.enter_context(Server(settings)).http
        first = "import atexit\natexit.register(lambda: queue.close())\n" if "handler" in kind else ""
        program = PROGRAMS[kind].format(http=http, token=TOKEN)
        done = subprocess.run(
            # From 3.12 on, Python warns of every fork of a process with threads.
            [
                sys.executable,
                "-W",
                "ignore:This process:DeprecationWarning",
                "-c",
                first + HEAD + program + "print(time.time(), flush=True)\n",
            ],
            env=environment(queue.settings),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
        )

    if "not there" in kind:
        last = done.stderr.strip().splitlines()[-1]
        said = "dtqkit.model.errors.StoreUnavailable: the server at http://127.0.0.1:9: nothing listens there"
        assert (done.returncode, last[: len(said)]) == (1, said)
    else:
        left = time.time()
        count, *ended = done.stdout.split()  # of the child too, where there is one
        assert (done.returncode, count, done.stderr) == (0, "0", "")
        # The last line, then at most a second for all queues, twice where there are two processes; and a busy machine.
        assert left - float(ended[-1]) < 5
