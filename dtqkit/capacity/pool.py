"""Processes for a simulation. They end when this process ends."""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, ProcessPoolExecutor, wait
from contextlib import contextmanager

log = logging.getLogger(__name__)


@contextmanager
def processes(count: int) -> Generator[Executor | None]:
    """An executor of `count` processes, or None: simulate in this process.

    None if `count` is 1, or if no process can be started (no shared memory, process limit). The processes are spawned,
    not forked: they share no state with this one. If the block ends by an exception, such as Ctrl-C, they are killed.
    """
    if count < 2:
        yield None
        return
    others = set(multiprocessing.active_children())
    executor = None
    try:
        executor = _started(count)
        yield executor
    except BaseException:
        for child in set(multiprocessing.active_children()) - others:
            child.kill()
        raise
    finally:
        if executor:
            executor.shutdown(cancel_futures=True)


def _started(count: int) -> ProcessPoolExecutor | None:
    executor = None
    try:
        executor = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), initializer=_end_with_parent)
        with _interrupts_held():
            first = [executor.submit(os.getpid) for _ in range(count)]
        wait(first, return_when=FIRST_COMPLETED)[0].pop().result()
    except (OSError, BrokenExecutor, ImportError, NotImplementedError) as error:
        log.warning("no processes can be started here (%s): simulating in this one", str(error) or type(error).__name__)
        if executor:
            executor.shutdown(cancel_futures=True)
        return None
    return executor


@contextmanager
def _interrupts_held() -> Generator[None]:
    """Processes started in this block do not get Ctrl-C. This process gets it and kills them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    """End this process when its parent ends. Otherwise it would wait forever for the next task."""
    threading.Thread(target=_await_parents_end, daemon=True).start()


def _await_parents_end() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)
