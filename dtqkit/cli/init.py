"""The first process of a container: it starts the command, passes signals on to it, and reaps every orphan.

Run as a script, `python -I -S init.py COMMAND …`, so that it stays small. A worker cannot do this itself: who waits
for any child at all takes the exit statuses that subprocess and asyncio wait for. It exits with the command's status.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

#: Passed on, unless they were ignored when we started.
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
#: Holds the pid of the command's init, so that the command does not start another one.
VARIABLE = "DTQ_INIT_PID"
_PR_SET_PDEATHSIG = 1


def main(command: list[str]) -> int:
    """Run `command`; returns its exit status, 128 + N when signal N has ended it."""
    forwarded = [number for number in FORWARDED if signal.getsignal(number) != signal.SIG_IGN]
    us = os.getpid()
    # Blocked during the fork: none may be missed, and the command must not handle one as we do.
    signal.pthread_sigmask(signal.SIG_BLOCK, forwarded)
    pid = os.fork()
    if pid == 0:
        try:
            _become(command, us, forwarded)
        finally:
            os._exit(127)
    for number in forwarded:
        signal.signal(number, lambda number, _frame: _pass_on(pid, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, forwarded)
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _become(command: list[str], parent: int, blocked: Sequence[signal.Signals]) -> None:
    # When we are killed, the command is asked to stop.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    os.environ[VARIABLE] = str(parent)
    # The -I of this interpreter is not the command's.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)
    os.execvp(command[0], command)  # noqa: S606 - our own arguments, no shell


def _pass_on(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
