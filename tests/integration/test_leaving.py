"""A program that closes nothing ends nevertheless, and soon."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dtqkit import TaskQueue
from tests.command import ROOT, environment
from tests.serving import READ_TOKEN, TOKEN, Server
from tests.workers import Workers

USED = "queue.include('tests.sample')\nfrom tests.sample import add\nprint(len(queue.jobs().items))\nadd.submit(1, 2)\n"
PROGRAMS = {
    "of the stores": "queue = TaskQueue()\n" + USED,
    "of its own": "queue = TaskQueue.local(workers=1)\n" + USED,
    "of a server that is not there": "queue = TaskQueue.connect('http://127.0.0.1:9', token='t' * 32)\n" + USED,
    "of a server": "queue = TaskQueue.connect('{http}', token='{token}')\n" + USED,
    "never used": "queue = TaskQueue()\nprint(0)\n",
}


@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_program_whose_queue_is_not_closed_ends(kind: str, queue: TaskQueue) -> None:
    queue.include("tests.sample")
    with Workers(queue):  # who tell a server what there is to do
        pass
    with Server(queue.settings.replace(port=0, ws_port=0, token=TOKEN, read_token=READ_TOKEN)) as server:
        program = "from dtqkit import TaskQueue\n" + PROGRAMS[kind].format(http=server.http, token=TOKEN)
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=environment(queue.settings),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
        )

    if "not there" in kind:
        assert (done.returncode, done.stderr.strip().splitlines()[-1]) == (
            1,
            "dtqkit.errors.StoreUnavailable: the server at http://127.0.0.1:9: Connection refused",
        )
    else:
        assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
