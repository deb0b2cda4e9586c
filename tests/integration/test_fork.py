"""A queue that was used before its process forked works in the child, and the parent notices nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from dtqkit import TaskQueue
from tests.command import ROOT, environment
from tests.serving import TOKEN, Server
from tests.wait import wait_until
from tests.workers import Workers

HEAD = """
import multiprocessing, os, signal, sys, threading, time
from dtqkit import TaskQueue
queue = {queue}
queue.include("tests.sample")
from tests.sample import add, fail
first = add.submit(1, 1)
"""

FORK = """
first.status
pid = os.fork()
if not pid:
    signal.alarm(30)
    print("child", add.submit(2, 2).result(timeout=20), flush=True)
    print("old handle", first.result(timeout=20), first.status, flush=True)
    print("many", add.map([1, 2], b=1).results(timeout=20), flush=True)
    sys.exit(0)
print("status", os.waitpid(pid, 0)[1], flush=True)
print("parent", add.submit(3, 3).result(timeout=20), first.result(timeout=20), flush=True)
"""
SAID = {"child 4", "old handle 2 completed", "many [2, 3]", "status 0", "parent 6 2"}

#: Forks while other threads use the queue: whatever lock one of them holds at that moment, the child has its own.
BUSY = """
over = threading.Event()
def use():
    while not over.is_set():
        add.submit(1).status
        queue.depths()
threads = [threading.Thread(target=use) for _ in range(4)]
for thread in threads:
    thread.start()
for n in range(8):
    time.sleep(0.05)  # so that the threads hold other locks at the next fork
    if not (pid := os.fork()):
        signal.alarm(30)
        ok = queue.get(first.id).result(timeout=20) == 2 and add.submit(n).status == "pending"
        os._exit(0 if ok else 1)
    assert os.waitpid(pid, 0)[1] == 0, n
over.set()
for thread in threads:
    thread.join()
print("parent", add.submit(3, 3).result(timeout=60), flush=True)
"""

POOL = """
def work(n):
    return add.submit(n).result(timeout=20)
def failing(n):
    return fail.submit(str(n)).result(timeout=20)
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print("pool", pool.map_async(work, [1, 2, 3]).get(timeout=40), flush=True)
        try:
            pool.apply_async(failing, [7]).get(timeout=40)
        except Exception as error:
            print(str(error).splitlines()[0].partition(" (")[0], repr(error.__cause__)[:20], flush=True)
    print("parent", first.result(timeout=20), flush=True)
"""


def run(program: str, queue: TaskQueue, of: str = "TaskQueue()") -> str:
    """What it prints; it must end well and say nothing on stderr."""
    done = subprocess.run(
        [sys.executable, "-c", HEAD.format(queue=of) + program],
        env=environment(queue.settings),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("kind", ["direct", "remote", "local"])
def test_a_forked_child_submits_and_waits_and_old_handles_work_in_it(kind: str, queue: TaskQueue) -> None:
    if kind == "local":
        assert set(run(FORK, queue, "TaskQueue.local(workers=1)").splitlines()) == SAID
        return
    with Workers(queue):
        if kind == "direct":
            assert set(run(FORK, queue).splitlines()) == SAID
        else:
            with Server(queue.settings.replace(port=0, ws_port=0, token=TOKEN)) as server:
                of = f"TaskQueue.connect({server.http!r}, token={TOKEN!r})"
                assert set(run(FORK, queue, of).splitlines()) == SAID


def test_a_fork_while_other_threads_use_the_queue_hangs_nobody(queue: TaskQueue, worker: Workers) -> None:
    assert run(BUSY, queue) == "parent 6\n"


def test_a_pool_of_forked_processes_uses_the_queue_of_its_parent(queue: TaskQueue, worker: Workers) -> None:
    said = run(POOL, queue).splitlines()
    assert said[0] == "pool [2, 3, 4]"
    assert said[1].startswith("ValueError: 7")
    assert said[2] == "parent 2"


def test_the_child_of_a_queue_with_workers_leaves_them_to_its_parent(queue: TaskQueue) -> None:
    program = """
supervisor = queue.start_workers(1, app="tests.sample:queue")
pids = supervisor.pids
if not (pid := os.fork()):
    queue.depths()
    queue.close()
    sys.exit(0)
print("status", os.waitpid(pid, 0)[1], supervisor.pids == pids, first.result(timeout=30), flush=True)
queue.close()
"""
    assert run(program, queue) == "status 0 True 2\n"


SITE = """
import os
from dtqkit import TaskQueue
queue = TaskQueue()
queue.include("tests.sample")
from tests.sample import add
first = add.submit(20, 22)
print("preloaded", queue.depths().running, flush=True)

def application(environ, start_response):
    body = f"{add.submit(1, 1).result(timeout=20)} {first.result(timeout=20)} {os.getppid()}".encode()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body]
"""


def test_gunicorn_forks_its_workers_from_an_app_that_has_used_the_queue(
    queue: TaskQueue, worker: Workers, tmp_path: Path
) -> None:
    pytest.importorskip("gunicorn")
    (tmp_path / "site_app.py").write_text(SITE)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    env = dict(environment(queue.settings))
    env["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{env['PYTHONPATH']}"
    with (tmp_path / "log").open("wb") as log:
        site = subprocess.Popen(
            [*(sys.executable, "-m", "gunicorn", "--preload", "-w", "2"), *("-b", f"127.0.0.1:{port}", "site_app")],
            env=env,
            cwd=ROOT,
            stdout=log,
            stderr=log,
        )
    try:

        def answered() -> str | None:
            assert site.poll() is None, (tmp_path / "log").read_text()
            try:
                with urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
                    return answer.read().decode()
            except (URLError, OSError):
                return None

        for _ in range(6):
            assert wait_until(answered, timeout_s=60) == f"2 42 {site.pid}"
    finally:
        site.send_signal(signal.SIGTERM)
        assert site.wait(timeout=30) == 0
