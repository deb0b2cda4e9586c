"""The command line: what it prints, how it ends, and what it makes of bad input."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from dtqkit import Settings, StoreUnavailable, TaskQueue
from dtqkit.__main__ import main
from dtqkit.cli import worker as worker_command
from dtqkit.run.supervisor import environment_of
from dtqkit.support.formatting import duration
from tests.command import answer, dtqkit, dtqkit_alone, environment, running, seconds_of, start_up_s
from tests.wait import wait_until
from tests.workers import Workers

APP = "tests.sample:queue"
NO_ID = "0" * 24


class Ended(NamedTuple):
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str


Here = Callable[..., Ended]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    """Run `dtqkit …` in this process: each start of another takes as long as ten of these."""

    def run(*arguments: str, settings: Settings | None = None, **env: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["dtqkit", *arguments])
        for name, value in {**(environment_of(settings) if settings else {}), **env}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return Ended(int(ended.value.code or 0), out, err)

    return run


# -- APP


@pytest.mark.parametrize(
    ("app", "expected"),
    [
        ("tests.sample", "is not an APP: it is written package.module:queue"),
        ("tests/sample.py:queue", "is not an APP"),
        ("no_such_module:queue", "no module 'no_such_module'"),
        ("tests.no_such_module:queue", "no module 'tests.no_such_module'"),
        ("tests.sample:nothing", "has no 'nothing'; did you mean tests.sample:queue?"),
        ("tests.sample:add", "not a TaskQueue; did you mean tests.sample:queue?"),
    ],
)
def test_an_app_that_cannot_be_loaded_is_wrong_use_and_says_why(app: str, expected: str) -> None:
    for command in (["worker", app], ["submit", app, "add"]):
        done = dtqkit(*command)

        assert done.returncode == 2
        assert done.stderr.startswith("dtqkit: ")
        assert done.stderr.count("\n") == 1
        assert expected in done.stderr


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import no_such_thing", "importing own raised ModuleNotFoundError: No module named 'no_such_thing'"),
        ("1 / 0", "importing own raised ZeroDivisionError: division by zero"),
        ("raise SystemExit(0)", "importing own raised SystemExit: 0"),
        ("def", "importing own raised SyntaxError"),
    ],
)
def test_an_app_whose_import_raises_is_wrong_use_and_says_what_it_raised(
    tmp_path: Path, source: str, expected: str
) -> None:
    (tmp_path / "own.py").write_text(source)

    done = dtqkit("worker", "own:queue", cwd=tmp_path)

    assert (done.returncode, expected in done.stderr) == (2, True), done.stderr
    assert "Traceback" not in done.stderr


def test_an_app_without_tasks_is_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("from dtqkit import TaskQueue\nqueue = TaskQueue()\n")

    done = dtqkit("worker", "own:queue", cwd=tmp_path)

    assert done.returncode == 2
    assert "has no tasks" in done.stderr


# -- stores


@pytest.mark.parametrize("variable", ["REDIS_URL", "ATLAS_URI"])
def test_a_wrong_address_is_wrong_use_and_is_not_shown(variable: str) -> None:
    seconds, done = seconds_of("worker", APP, **{variable: "https://user:hunter2@example.org"})

    assert done.returncode == 2
    assert variable in done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    assert seconds < 5


def test_commands_fail_within_5_s_when_mongodb_is_not_there() -> None:
    for command in (["jobs"], ["job", NO_ID], ["submit", APP, "add", "a=1"]):
        seconds, done = seconds_of(*command, ATLAS_URI="mongodb://user:hunter2@127.0.0.1:1/")

        assert done.returncode == 1
        assert done.stderr.startswith("dtqkit: MongoDB at mongodb://***@127.0.0.1:1")
        assert "hunter2" not in done.stdout + done.stderr
        assert seconds < 5


@pytest.mark.parametrize(
    ("store", "broken"),
    [
        ("Redis", {"redis_url": "redis://user:hunter2@127.0.0.1:1/0"}),
        ("MongoDB", {"atlas_uri": "mongodb://user:hunter2@127.0.0.1:1/"}),
    ],
)
def test_a_worker_without_a_store_says_so_within_5_s_and_goes_on_trying(
    store: str, broken: dict[str, str], settings: Settings, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    limit_s = 5 + start_up_s()
    with running("worker", APP, log=log, settings=settings.replace(**broken)) as worker:
        wait_until(lambda: f"WARNING {store} at" in log.read_text(), timeout_s=limit_s)

        assert worker.poll() is None
        worker.terminate()
        assert worker.wait(10) == 0
    assert "hunter2" not in log.read_text()


def test_a_worker_that_cannot_reach_a_store_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lonely.py").write_text(
        "from dtqkit import TaskQueue\nqueue = TaskQueue()\n@queue.task\ndef f() -> None: ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("ATLAS_URI", "mongodb://127.0.0.1:1")
    monkeypatch.setattr(worker_command, "STORES_S", 3.0)

    with pytest.raises(StoreUnavailable, match="MongoDB"):
        worker_command.worker("lonely:queue")


# -- worker


def test_sigterm_lets_a_running_job_finish_and_exits_0(queue: TaskQueue, settings: Settings, tmp_path: Path) -> None:
    with running("worker", APP, log=tmp_path / "log", settings=settings.replace(grace_s=20)) as worker:
        job = queue.submit_call(queue.registry.get("sleep").bind(1.5))
        wait_until(lambda: job.refresh().status == "running")
        worker.terminate()

        assert worker.wait(15) == 0
    assert job.refresh().status == "completed"


def test_sigint_gives_a_long_job_back_after_the_grace_and_exits_0(
    queue: TaskQueue, settings: Settings, tmp_path: Path
) -> None:
    with running("worker", APP, log=tmp_path / "log", settings=settings.replace(grace_s=0.3)) as worker:
        job = queue.submit_call(queue.registry.get("sleep").bind(60))
        wait_until(lambda: job.refresh().status == "running")
        worker.send_signal(signal.SIGINT)

        assert worker.wait(15) == 0
    assert job.refresh().status == "pending"
    assert [attempt.ending for attempt in job.record.attempts] == ["released"]


def test_a_later_second_signal_ends_a_worker_at_once_with_status_1(
    queue: TaskQueue, settings: Settings, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with running("worker", APP, log=log, settings=settings.replace(grace_s=60)) as worker:
        job = queue.submit_call(queue.registry.get("sleep").bind(60))
        wait_until(lambda: job.refresh().status == "running")
        worker.terminate()
        wait_until(lambda: "SIGTERM: stopping" in log.read_text())

        def ended() -> bool:
            worker.terminate()
            return worker.poll() is not None

        wait_until(ended, interval_s=0.5)
        assert worker.returncode == 1
        assert "stopped at once: 1 job goes back to the queue" in log.read_text()


def test_worker_with_several_workers_supervises_them(settings: Settings, queue: TaskQueue, tmp_path: Path) -> None:
    with running("worker", APP, "--workers", "2", log=tmp_path / "log", settings=settings) as supervisor:
        wait_until(lambda: len(queue.workers()) == 2, timeout_s=20)
        lanes = {beat.name: beat.lanes[0] for beat in queue.workers()}
        supervisor.terminate()

        assert supervisor.wait(20) == 0
    assert lanes == {"worker-1": "high", "worker-2": "medium"}


@pytest.mark.parametrize("lanes", ["urgent", "high,high", "", "high,"])
def test_lanes_that_do_not_exist_are_wrong_use(lanes: str) -> None:
    done = dtqkit("worker", APP, "--lanes", lanes)

    assert done.returncode == 2
    assert "lane" in done.stderr


def test_an_idle_worker_process_stays_below_62_mb(settings: Settings, queue: TaskQueue, tmp_path: Path) -> None:
    with running("worker", "dtqkit.demo:queue", log=tmp_path / "log", settings=settings) as worker:
        wait_until(queue.workers, timeout_s=20)
        status = Path(f"/proc/{worker.pid}/status").read_text()
        worker.terminate()
        assert worker.wait(15) == 0

    resident_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    assert resident_kb < 62_000


def test_loading_the_command_line_loads_neither_rich_nor_numpy_nor_pandas() -> None:
    code = "import sys, dtqkit.cli; print([m for m in ('rich', 'numpy', 'pandas', 'matplotlib') if m in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)

    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["pause", "--lane", "low"], 0),
        (["pauses"], 0),
        (["schedules"], 0),
        (["update", NO_ID, "--to-tag", "x"], 1),
    ],
)
def test_a_command_imports_what_it_needs(arguments: list[str], status: int, settings: Settings) -> None:
    """Where others have not done it, as in the processes of most tests here."""
    done = dtqkit_alone(*arguments, settings=settings)

    assert (done.returncode, "Traceback" in done.stderr) == (status, False), done.stderr


# -- jobs


def test_a_job_goes_from_submit_through_listing_to_cancel(settings: Settings, queue: TaskQueue) -> None:
    options = ("--priority", "low", "--tag", "t1", "--key", "k")
    submitted = dtqkit_alone("submit", APP, "add", "a=2", *options, settings=settings)
    job_id = submitted.stdout.strip()

    listed = answer("jobs", "--task", "add", "--status", "pending", "--q", "t1", settings=settings)
    assert [job["id"] for job in listed["items"]] == [job_id]
    shown = answer("job", job_id, settings=settings)
    assert (shown["payload"], shown["priority"], shown["status"]) == ({"a": 2}, "low", "pending")
    assert answer("cancel", job_id, settings=settings)["status"] == "cancelled"
    again = dtqkit("cancel", job_id, settings=settings)
    assert again.returncode == 1
    assert again.stderr == f"dtqkit: job {job_id} is cancelled: it cannot be cancelled any more\n"


def test_submit_wait_prints_the_result_and_follows_the_task_s_types(worker: Workers, settings: Settings) -> None:
    plain = dtqkit("submit", APP, "add", "a=2", "b=40", "--wait", settings=settings)
    payload = dtqkit("submit", APP, "add", "--payload", '{"a": 5}', "--wait", settings=settings)

    assert (plain.returncode, plain.stdout) == (0, "42\n")
    assert (payload.returncode, payload.stdout) == (0, "6\n")


def test_a_value_stays_text_where_the_task_takes_text(worker: Workers, settings: Settings) -> None:
    done = dtqkit("submit", APP, "fail", "message=007", "--wait", settings=settings)

    assert done.returncode == 1
    assert re.search(r"ValueError: 007 \(job [0-9a-f]{24} fail, attempt 2\)\n$", done.stderr)


def test_a_failed_job_shows_its_attempts_and_can_be_requeued(
    worker: Workers, queue: TaskQueue, settings: Settings
) -> None:
    job_id = answer("submit", APP, "fail", "message=no", settings=settings)["id"]
    wait_until(lambda: queue.get(job_id).status == "failed")

    record = answer("job", job_id, settings=settings)
    assert [attempt["ending"] for attempt in record["attempts"]] == ["failed", "failed"]
    assert record["error"]["message"] == "no"
    text = dtqkit("job", job_id, settings=settings).stdout
    assert "ValueError: no" in text
    assert "Traceback (most recent call last):" in text
    assert answer("requeue", "--dead", "--dry-run", settings=settings) == {"matched": 1, "requeued": 0}
    assert answer("requeue", "--dead", "--task", "add", settings=settings) == {"matched": 0, "requeued": 0}
    worker.stop()
    assert answer("requeue", job_id, settings=settings)["status"] == "pending"
    assert dtqkit("requeue", job_id, settings=settings).returncode == 1


def test_all_dead_letters_can_be_requeued_at_once(worker: Workers, queue: TaskQueue, settings: Settings) -> None:
    fail = queue.registry.get("fail")
    jobs = queue.submit_many(fail.bind(str(n)) for n in range(3))
    wait_until(lambda: all(job.refresh().status == "failed" for job in jobs))
    worker.stop()

    done = dtqkit("requeue", "--dead", settings=settings)

    assert (done.returncode, done.stdout) == (0, "3 of 3 dead letters requeued\n")
    assert queue.depths().medium == 3


def test_a_log_is_printed_line_by_line(worker: Workers, settings: Settings) -> None:
    job_id = answer("submit", APP, "report_steps", "steps=2", "--wait", settings=settings)["id"]

    done = dtqkit("job", job_id, "--log", settings=settings)

    assert done.stdout.splitlines() == ["log 1", "log 2", "printed", "to stderr"]
    assert answer("job", job_id, "--log", settings=settings)["lines"][0] == "log 1"


def test_a_listing_is_aligned_text_outside_a_terminal_and_goes_on_by_its_cursor(
    queue: TaskQueue, settings: Settings
) -> None:
    jobs = queue.submit_many(queue.registry.get("add").bind(n) for n in range(3))

    first = dtqkit("jobs", "--limit", "2", settings=settings).stdout.splitlines()
    rest = dtqkit("jobs", *first[-1].removeprefix("more: ").split(), settings=settings).stdout.splitlines()

    assert first[0].split()[:4] == ["id", "task", "priority", "status"]
    assert [line.split()[:4] for line in [*first[1:3], rest[1]]] == [
        [job.id, "add", "medium", "pending"] for job in reversed(jobs)
    ]
    assert len(rest) == 2


def test_a_listing_shows_a_failed_job_s_last_attempt_and_takes_the_worker_that_it_shows(
    worker: Workers, queue: TaskQueue, settings: Settings, here: Here
) -> None:
    job = queue.submit_call(queue.registry.get("fail").bind("no"))
    wait_until(lambda: job.refresh().status == "failed")
    last = job.record.attempts[-1]

    shown = here("jobs", settings=settings).out.splitlines()[1]
    by_worker = here("jobs", "--worker", last.worker).out.splitlines()

    assert by_worker[1:] == [shown]
    assert [last.worker, "ValueError:", "no"] == shown.split()[-3:]
    assert duration(last.wait_s) in shown
    assert duration(last.run_s) in shown
    assert "due" not in here("job", job.id).out


def test_a_narrow_terminal_s_listing_cuts_neither_id_nor_worker(
    worker: Workers, queue: TaskQueue, settings: Settings, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = queue.submit_call(queue.registry.get("fail").bind("a message that is far too long for so narrow a terminal"))
    wait_until(lambda: job.refresh().status == "failed")
    monkeypatch.setattr("dtqkit.cli.show.on_terminal", lambda: True)

    lines = here("jobs", settings=settings, COLUMNS="80").out.splitlines()

    (row,) = [line for line in lines if job.id in line]
    assert {"fail", "failed", job.record.attempts[-1].worker} <= set(row.split())
    assert max(len(line) for line in lines) <= 80


def test_follow_prints_each_change_as_a_line_of_json_until_ctrl_c(
    worker: Workers, queue: TaskQueue, settings: Settings, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    before = queue.submit_call(queue.registry.get("add").bind(1))
    before.result(timeout=10)
    with running("jobs", "--follow", "--json", "--task", "add", log=log, settings=settings) as follower:
        wait_until(log.read_text, timeout_s=20)
        other = queue.submit_call(queue.registry.get("where").bind())
        after = queue.submit_call(queue.registry.get("add").bind(2))
        wait_until(lambda: f'"{after.id}"' in log.read_text() and '"completed"' in log.read_text().rsplit(after.id)[-1])
        follower.send_signal(signal.SIGINT)
        assert follower.wait(10) == 0

    events = [msgspec.json.decode(line) for line in log.read_text().splitlines()]
    assert {event["id"] for event in events} == {before.id, after.id}
    assert other.id not in log.read_text()


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        (["submit", APP, "ad"], 2, "no task is registered as 'ad'; did you mean 'add'"),
        (["submit", APP, "add"], 2, "argument 'a' is missing"),
        (["submit", APP, "add", "a=x"], 2, "expected `int`, got `str`"),
        (["submit", APP, "add", "a=1", "c=1"], 2, "there is no argument 'c'"),
        (["submit", APP, "add", "a"], 2, "is not KEY=VALUE"),
        (["submit", APP, "add", "a=1", "a=2"], 2, "repeats a key"),
        (["submit", APP, "nonsense"], 2, "no task is registered as 'nonsense'; there are "),
        (["submit", APP, "add", "--payload", "[1]"], 2, "'--payload': it is JSON, but not an object"),
        (["submit", APP, "add", "--payload", '{"a": '], 2, "it is not JSON: Expecting value at character 7 (the end)"),
        (["submit", APP, "add", "--payload", "{a: 1}"], 2, "at character 2 ('a: 1}')"),
        (["submit", APP, "add", "--payload", "{}", "a=1"], 2, "either as KEY=VALUE or as --payload"),
        (["submit", APP, "add", "a=1", "--delay", "-1"], 2, "'--delay': -1.0; it is a number of seconds"),
        (["submit", APP, "add", "a=1", "--max-attempts", "0"], 2, "'--max-attempts': 0; it is an int from 1 to 100"),
        (["submit", APP, "add", "a=1", "--tag", ""], 2, "'--tag': ''; it is a text"),
        (["submit"], 2, "Missing argument 'APP'; see dtqkit submit --help"),
        (["up", "shop:queue"], 2, "did you mean --app shop:queue?"),
        (["nonsense"], 2, "No such command"),
        (["job", NO_ID], 1, f"no job has the id '{NO_ID}'"),
        (["job", "nonsense"], 1, "no job has the id 'nonsense'"),
        (["cancel", NO_ID], 1, "no job has the id"),
        (["requeue", NO_ID], 1, "no job has the id"),
        (["requeue"], 2, "either the ID of one job or --dead"),
        (["requeue", NO_ID, "--dry-run"], 2, "go with --dead"),
        (["jobs", "--since", "yesterday"], 2, "since is 'yesterday'"),
        (["jobs", "--cursor", "tampered"], 2, "was not returned by a listing"),
        (["jobs", "--status", "done"], 2, "'done' is not one of"),
        (["jobs", "--limit", "0"], 2, "--limit"),
        (["jobs", "--follow", "--q", "x"], 2, "--follow can be combined with"),
    ],
)
def test_bad_input_gets_one_line_and_its_exit_status(
    arguments: list[str], status: int, expected: str, settings: Settings, here: Here
) -> None:
    ended = here(*arguments, settings=settings)

    assert (ended.status, ended.out) == (status, ""), ended.err
    assert ended.err.startswith("dtqkit: ")
    assert ended.err.count("\n") == 1
    assert expected in ended.err


@pytest.mark.parametrize(
    ("arguments", "option", "path"),
    [
        (["up"], "--ready-file", "/no/dir/up.json"),
        (["server"], "--ready-file", "/no/dir/up.json"),
        (["plan", "--jobs-per-day", "1000000"], "--png", "/no/dir/plan.png"),
        (["simulate", "--jobs-per-day", "1000000"], "--png", "/no/dir/day.png"),
    ],
)
def test_a_file_that_cannot_be_written_is_reported_before_anything_is_started(
    arguments: list[str], option: str, path: str, here: Here
) -> None:
    ended = here(*arguments, option, path)

    why = f"Invalid value for '{option}': {path} cannot be written: there is no folder /no/dir"
    assert ended == (2, "", f"dtqkit: {why}; see dtqkit {arguments[0]} --help\n")


@pytest.mark.parametrize("command", ["up", "server"])
@pytest.mark.parametrize(("taken", "free"), [("--port", "--ws-port"), ("--ws-port", "--port")])
def test_a_port_that_is_taken_is_named_with_its_option_before_anything_is_started(
    command: str, taken: str, free: str, here: Here
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = here(command, taken, str(port), free, "0", DTQ_TOKEN="t" * 32)

    why = f"cannot listen on port {port} of 127.0.0.1 (Address already in use)"
    assert ended == (1, "", f"dtqkit: {why}: choose another with {taken}, or 0 for any that is free\n")


def test_an_unreachable_store_at_its_default_address_is_reported_with_the_variable_to_set(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever listens on this machine: the error is made, and not waited for."""
    for name in ("ATLAS_URI", "MONGODB_URI"):
        monkeypatch.delenv(name, raising=False)

    def away(**_: object) -> None:
        raise StoreUnavailable("MongoDB", Settings().atlas_uri, "no server that takes writes answers")

    monkeypatch.setattr("dtqkit.cli.command_line", away)

    unset = here("jobs").err.splitlines()
    named = here("jobs", ATLAS_URI=Settings().atlas_uri).err.splitlines()

    assert len(named) == 1
    assert unset[:1] == named
    assert unset[1].startswith("dtqkit: ATLAS_URI is not set, so the default address was used; `dtqkit up ")


def test_a_job_that_is_submitted_while_redis_is_away_is_reported_as_safe(settings: Settings) -> None:
    done = dtqkit("submit", APP, "add", "a=1", settings=settings.replace(redis_url="redis://127.0.0.1:1/0"))

    assert (done.returncode, len(done.stdout.strip())) == (0, 24), done.stderr
    assert done.stderr.count("\n") == 1
    assert "the job is safe in MongoDB, and will be listed once Redis takes writes: Redis at " in done.stderr


def test_the_version_can_be_asked_for() -> None:
    done = dtqkit("--version")

    assert (done.returncode, done.stdout.split()) == (0, ["dtqkit", version("dtqkit")])


def test_shell_completion_can_be_had() -> None:
    done = dtqkit("--show-completion", "bash")

    assert done.returncode == 0
    assert "_DTQKIT_COMPLETE" in done.stdout.upper()
    assert os.linesep in done.stdout


def test_an_option_that_is_refused_is_wrong_use(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shellingham", None)  # it cannot be imported
    done = here("--show-completion")
    assert done.status == 2
    assert done.err.startswith("dtqkit: the shell could not be detected: name it, as in dtqkit --show-completion bash")


def test_a_unique_job_is_submitted_once_and_the_second_submit_says_so(
    here: Here, settings: Settings, queue: TaskQueue
) -> None:
    unique = ("submit", APP, "add", "a=1", "--unique", "active", "--unique-key", "doc-7")
    first, again = dtqkit(*unique, settings=settings), dtqkit(*unique, settings=settings)
    assert (first.returncode, again.returncode, again.stdout) == (0, 0, first.stdout)
    job = first.stdout.strip()
    assert f"no new job: {job} has the unique key 'doc-7'" in again.stderr
    assert "until it is over, key doc-7, 1 duplicate" in here("job", job, settings=settings).out
    for wrong, words in (
        (("--unique-key", "k"), "--unique-key"),
        (("--unique", "window"), "--unique"),
        (("--debounce", "5", "--delay", "5"), "--delay"),
    ):
        refused = here("submit", APP, "add", "a=1", *wrong, settings=settings)
        assert refused.status == 2
        assert words in refused.err
