"""Tasks that show what a child process is to a task, and what a task may do there. They belong to no queue here."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import io
import locale
import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from dtqkit import Context, task
from dtqkit.worker.context import current_job

#: As an application sets it up at import.
kept = logging.getLogger("kept")
kept.addHandler(logging.StreamHandler())
kept.propagate = False


@task(max_attempts=1)
def plus(a: int, b: int = 1) -> int:
    return a + b


@task(max_attempts=1)
def pid() -> int:
    return os.getpid()


# -- surroundings


@task(max_attempts=1)
def surroundings() -> dict[str, Any]:
    umask = os.umask(0)
    os.umask(umask)
    return {
        "umask": umask,
        "directory": str(Path.cwd()),
        "locale": locale.setlocale(locale.LC_ALL),
        "SIGTERM": str(signal.getsignal(signal.SIGTERM)).split(" at ")[0],
        "SIGUSR1": str(signal.getsignal(signal.SIGUSR1)),
        "alarm": signal.getitimer(signal.ITIMER_REAL)[0],
        "stdout": sys.stdout.name,
        "blocking": os.get_blocking(1),
        "environment": dict(os.environ),
    }


@task(max_attempts=1)
def change(what: str) -> None:
    """Change something that other jobs of the process would see."""
    match what:
        case "environment":
            os.environ["ADDED"] = "1"
            os.environ["HOME"] = "/nowhere"
            os.environ.pop("PATH")
        case "umask":
            os.umask(0o777)
        case "directory":
            os.chdir("/")
        case "locale":
            locale.setlocale(locale.LC_NUMERIC, "C")
            locale.setlocale(locale.LC_ALL, "C")
        case "signals":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            signal.alarm(100)
        case "stdout":
            sys.stdout = io.StringIO()
            os.set_blocking(1, False)
        case _:
            raise AssertionError(what)


@task(max_attempts=1)
def python_path() -> list[str | None]:
    """PYTHONPATH here, and in a program that is started here."""
    code = "import os; print(os.environ.get('PYTHONPATH'), end='')"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return [os.environ.get("PYTHONPATH"), there]


@task(max_attempts=1)
def environment() -> dict[str, str]:
    """All variables here."""
    return dict(os.environ)


# -- output


def _use(how: str) -> None:
    """Use a standard stream as libraries do; each writes "from" and its name."""
    match how:
        case "buffer":
            sys.stdout.buffer.write(b"from buffer\n")
        case "encoding":
            print(f"from encoding {'é'.encode(sys.stdout.encoding).decode(sys.stderr.encoding)}")
        case "reconfigure":
            sys.stdout.reconfigure(line_buffering=True)  # pyright: ignore[reportAttributeAccessIssue]
            print("from reconfigure")
        case "attributes":
            assert not sys.stdout.isatty()
            assert not sys.stderr.closed
            print(f"from attributes {str(sys.stdout.errors).lower()} {sys.stdout.mode} {sys.stderr.name}")
        case "faulthandler":
            faulthandler.enable()
            faulthandler.disable()
            print("from faulthandler")
        case "handler":
            handler = logging.StreamHandler(sys.stdout)
            logging.getLogger("late").addHandler(handler)
            logging.getLogger("late").warning("from handler")
            logging.getLogger("late").removeHandler(handler)
        case "redirect":
            with contextlib.redirect_stdout(io.StringIO()) as caught:
                print("not from redirect")
            assert caught.getvalue() == "not from redirect\n"
            print("from redirect")
        case "fileno":
            assert sys.stdout.fileno() >= 0
            assert sys.stderr.fileno() >= 0
            print("from fileno")
        case _:
            raise AssertionError(how)


@task(max_attempts=1)
def use_in_child(how: str) -> None:
    _use(how)


@task(max_attempts=1, isolation="thread")
def use_in_thread(how: str) -> None:
    _use(how)


@task(max_attempts=1)
async def use_in_coroutine(how: str) -> None:
    _use(how)


@task(max_attempts=1)
def write_in_all_ways(ctx: Context) -> None:
    print("print")
    ctx.log("context")
    subprocess.run(["echo", "subprocess"], check=True)
    subprocess.run(["sh", "-c", "echo stderr >&2"], stderr=sys.stderr, check=True)
    os.write(1, b"descriptor\n")
    print("dunder", file=sys.__stdout__)
    kept.warning("kept handler")
    logging.getLogger("plain").warning("no handler")
    thread = threading.Thread(target=lambda: logging.getLogger("plain").warning("thread"))
    thread.start()
    thread.join()
    ctx.log("last")
    print("no end", end="")


@task(max_attempts=1)
def progress_bar() -> None:
    for step in range(2000):
        print(f"\r{step} of 2000", end="", file=sys.stderr)
    print(file=sys.stderr)


@task(max_attempts=1)
def pour(megabytes: int) -> None:
    """More than a pipe holds, in one write, and without an end of line."""
    os.write(1, b"begin\n")
    sys.stdout.buffer.write(b"x" * megabytes * 1_000_000)
    sys.stdout.buffer.flush()
    print("\nend")


@task(max_attempts=1)
def last_output() -> None:
    os.write(2, b"last output\n")
    os.kill(os.getpid(), signal.SIGKILL)


# -- interruptions


def _block(how: str) -> None:
    match how:
        case "sleep":
            time.sleep(30)
        case "loop":
            while True:
                time.sleep(0.05)
        case "lock":
            threading.Event().wait()
        case "socket":
            ours, theirs = socket.socketpair()
            with ours, theirs:
                ours.recv(1)
        case "subprocess":
            subprocess.run(["sleep", "30"], check=False)
        case _:
            raise AssertionError(how)


@task(max_attempts=1)
def wait_by(ctx: Context, how: str) -> None:
    ctx.log("begun")
    try:
        _block(how)
    except BaseException as error:
        ctx.log(f"raised {type(error).__name__}")
        raise
    finally:
        ctx.log("cleaned up")


@task(max_attempts=2, backoff_s=0.01, timeout_s=0.4)
def always_late() -> None:
    time.sleep(20)


#: What a coroutine has left behind in the worker's loop, where nothing else ends it, ends by this.
let_go = threading.Event()


@task(max_attempts=1)
async def swallow(ctx: Context, how: str) -> None:
    """An `async def` that catches its cancellation."""

    async def stubborn() -> None:
        while not let_go.is_set():
            try:
                await asyncio.sleep(0.2)
            except asyncio.CancelledError:
                ctx.log("cancelled")

    try:
        match how:
            case "itself":
                await stubborn()
            case "a task":
                await asyncio.create_task(stubborn())
            case "gather":
                await asyncio.gather(stubborn(), stubborn())
            case "wait_for":
                await asyncio.wait_for(stubborn(), 60)
            case "twice":
                with contextlib.suppress(BaseException):
                    await stubborn()
                await stubborn()
            case _:
                raise AssertionError(how)
    finally:
        ctx.log("over")


@task(max_attempts=2, backoff_s=0.01, timeout_s=0.3, isolation="thread")
def slow_thread(path: str) -> None:
    """Blocks in C beyond its timeout, and writes to a file when it begins and ends."""
    with Path(path).open("a") as file:
        file.write("begin\n")
    try:
        time.sleep(1.5)
    finally:
        with Path(path).open("a") as file:
            file.write("end\n")


@task(max_attempts=1, isolation="thread")
def deaf_thread() -> None:
    """Looks at no context."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        time.sleep(0.01)


# -- signals and processes


@task(max_attempts=1)
def hold(seconds: float) -> int:
    print(os.getpid())
    time.sleep(seconds)
    return os.getpid()


@task(max_attempts=1)
def own_handler() -> str:
    """A task may use the signals while it runs."""
    received: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    os.kill(os.getpid(), signal.SIGTERM)
    return signal.Signals(received[0]).name


@task(max_attempts=1)
def terminate_program() -> int:
    """The programs that a task starts end by SIGTERM."""
    with subprocess.Popen(["sleep", "30"]) as program:
        program.terminate()
        return program.wait(timeout=5)


@task(max_attempts=1, timeout_s=20)
def forked_pool(count: int) -> list[int]:
    with multiprocessing.get_context("fork").Pool(2) as pool:  # ends its processes by SIGTERM
        return pool.map(abs, range(count))


@task(max_attempts=1)
def fork(how: str) -> int:
    """A fork that leaves the task's function by itself."""
    mine = os.getpid()
    if (child := os.fork()) == 0:
        if how == "returns":
            return -1
        raise ValueError("in the fork")
    _, status = os.waitpid(child, 0)
    print("status", os.waitstatus_to_exitcode(status))
    return mine


@task(max_attempts=2, backoff_s=0.01)
def die_while_a_fork_lives(ctx: Context) -> int:
    """The fork has the descriptors too, and leaves the process group."""
    if ctx.attempt == 1:
        if os.fork() == 0:
            os.setsid()
            time.sleep(5)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)
    return ctx.attempt


@task(max_attempts=1)
def start_and_hold() -> None:
    with subprocess.Popen(["sleep", "60"]) as program:
        print(os.getpid(), program.pid)


# -- failures


def _inner() -> None:
    {}["lost"]


@task(max_attempts=1)
def fail_in_child() -> None:
    _fail()


@task(max_attempts=1, isolation="thread")
def fail_in_thread() -> None:
    _fail()


@task(max_attempts=1)
async def fail_in_coroutine() -> None:
    _fail()


def _fail() -> None:
    try:
        _inner()
    except KeyError as error:
        raise ValueError("wrong") from error


# -- tasks that submit tasks


def _submit() -> list[str]:
    return [plus.submit(1).id, *[job.id for job in plus.map([2, 3])]]


@task(max_attempts=1)
def submit_in_child() -> list[str]:
    return _submit()


@task(max_attempts=1, isolation="thread")
def submit_in_thread() -> list[str]:
    return _submit()


@task(max_attempts=1)
async def submit_in_coroutine() -> list[str]:
    return await asyncio.to_thread(_submit)


@task(max_attempts=1, isolation="thread")
def wait_in_thread(n: int) -> int:
    return plus.submit(n).result(timeout=20) + 100


@task(max_attempts=1)
def lend() -> None:
    """Reports from another thread that it waits for two jobs, and then that it goes on."""

    def say(*ids: str) -> None:
        job = current_job()
        assert job is not None
        job.lends(ids)

    thread = threading.Thread(target=say, args=("a", "b"))
    thread.start()
    thread.join()
    say()
