"""The watcher process: parent of the local servers, which it stops when their owner has ended.

Run as a script, `python -I -S watch.py OWNER_PID LOCK_FD TEMPORARY_DIR`, so that it stays small: it imports only the
standard library, and nothing of dtqkit. It has its own session, so that neither Ctrl-C in the terminal nor an interrupt
of a notebook reaches it or the servers.

Only the owner holds the write end of the pipe on standard input: end of file means that the owner has ended, for
whatever reason. (PR_SET_PDEATHSIG would fire when the *thread* that started this process ends.) A child that the owner
forked may also hold that end, so the parent's id is checked every few seconds.

One JSON object a line. In: `{"op": "start", "name", "argv", "input", "log"}`, `{"op": "kill", "name"}`,
`{"op": "stop"}`. Out: `{"started": name, "pid"}`, `{"failed": name, "error"}`, `{"ended": name, "status"}`,
where a negative status is the signal's number.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

GRACE_S = 5.0  # from SIGTERM to SIGKILL, if the data is kept
PARENT_CHECK_S = 2.0


class ServerWatch:
    def __init__(self, owner_pid: int, lock_fd: int, temporary_dir: str) -> None:
        self.owner_pid = owner_pid
        self.lock_fd = lock_fd  # the servers inherit it: the directory is locked while one of them runs
        self.temporary_dir = temporary_dir
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.received = b""

    def run(self) -> None:
        child_ended = wake_on_signals()
        while True:
            ready, _, _ = select.select([0, child_ended], [], [], PARENT_CHECK_S)
            if child_ended in ready:
                os.read(child_ended, 4096)
            self.report_ended()
            if 0 in ready:
                data = os.read(0, 65536)
                if not data or not all(self.execute(command) for command in self.commands(data)):
                    break
            if os.getppid() != self.owner_pid:
                break
        self.end_all()

    def commands(self, data: bytes) -> Iterator[dict[str, Any]]:
        *lines, self.received = (self.received + data).split(b"\n")
        return map(json.loads, lines)

    def execute(self, command: dict[str, Any]) -> bool:
        """Execute a command of the owner; False for `stop`."""
        if command["op"] == "start":
            self.start(command["name"], command["argv"], command["input"], command["log"])
        elif command["op"] == "kill" and command["name"] in self.children:
            self.children[command["name"]].kill()
        return command["op"] != "stop"

    def start(self, name: str, argv: list[str], text: str, log: str) -> None:
        try:
            # Does not follow a planted symbolic link; readable by its owner only.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
            with os.fdopen(os.open(log, flags, 0o600), "ab") as log_file:
                child = subprocess.Popen(
                    argv, stdin=subprocess.PIPE, stdout=log_file, stderr=log_file, pass_fds=[self.lock_fd]
                )
        except OSError as error:
            report({"failed": name, "error": str(error)})
            return
        self.children[name] = child
        report({"started": name, "pid": child.pid})
        assert child.stdin is not None  # noqa: S101 - for the type checker
        try:
            child.stdin.write(text.encode())
            child.stdin.close()
        except BrokenPipeError:
            pass  # it ended before it read: reported like any other end

    def report_ended(self) -> None:
        for name, child in list(self.children.items()):
            if child.poll() is not None:
                del self.children[name]
                report({"ended": name, "status": child.returncode})

    def end_all(self) -> None:
        """Stop all servers; with SIGKILL at once if their data is temporary."""
        deadline = time.monotonic() + (0 if self.temporary_dir else GRACE_S)
        for child in self.children.values():
            child.send_signal(signal.SIGKILL if self.temporary_dir else signal.SIGTERM)
        for child in self.children.values():
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        if self.temporary_dir:
            import shutil  # imported here to save memory while the servers run

            shutil.rmtree(self.temporary_dir, ignore_errors=True)


def wake_on_signals() -> int:
    """A descriptor that becomes readable when a child ends.

    SIGTERM and similar signals do not end this process: the owner, which may have received the same signal, stops its
    workers first and then this process. Handlers instead of SIG_IGN, which the servers would inherit.
    """
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _only_wake)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # the starting thread's mask was inherited
    return read_fd


def _only_wake(_number: int, _frame: object) -> None:
    pass


def report(event: dict[str, Any]) -> None:
    try:
        os.write(1, json.dumps(event).encode() + b"\n")
    except BrokenPipeError:
        pass  # the owner has ended: end of file on standard input follows


if __name__ == "__main__":
    ServerWatch(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]).run()
