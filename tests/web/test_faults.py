"""What happens to the server when something goes away: the stores, its clients, or itself."""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dtqkit import TaskQueue
from dtqkit.control import JobsRequest
from dtqkit.control.operations import RECORDS
from dtqkit.local import LocalStores
from dtqkit.model.events import Batch, Line
from dtqkit.model.settings import Settings
from dtqkit.remote import RemoteControl
from tests.serving import TOKEN, Server, publish, settings_for
from tests.wait import wait_until
from tests.web.tasks import ALL, add
from tests.workers import Workers

Start = Callable[..., Server]


@pytest.fixture
def own(own_stores: LocalStores) -> Settings:
    settings = settings_for(own_stores, f"f{secrets.token_hex(5)}")
    publish(settings, [task.info for task in ALL])
    return settings


def submit(server: Server, number: int = 1, **fields: Any) -> Any:
    return server.post("/jobs", {"task": "add", "payload": {"a": number}, **fields})


def test_without_redis_jobs_are_accepted_and_health_is_degraded(own: Settings, own_stores: LocalStores) -> None:
    with Server(own) as server:
        own_stores.kill_redis()
        started = time.monotonic()
        accepted = submit(server)
        assert (accepted.status, time.monotonic() - started < 2) == (201, True)
        assert submit(server, task="nobody").json["code"] == "unknown_task"
        assert server.get(f"/jobs/{accepted.json['id']}").status == 200
        assert server.get("/jobs/queue-depths").json["high"] == 1
        assert server.get("/workers").status == 503
        wait_until(lambda: server.get("/health").json["redis"] == "down")
        assert (server.get("/health").status, server.get("/health").json["status"]) == (200, "degraded")
        own_stores.restart_redis(empty=False)
        wait_until(lambda: server.get("/health").json["redis"] == "up")
        assert server.get("/health").json["reasons"] == ["no worker is alive: jobs wait until one starts"]
        assert server.get("/workers").status == 200


def test_without_mongodb_submits_are_503_within_two_seconds(own: Settings, own_stores: LocalStores) -> None:
    with Server(own) as server:
        assert submit(server).status == 201
        own_stores.kill_mongo()
        for _ in range(3):
            started = time.monotonic()
            answer = submit(server)
            assert answer.status == 503
            assert time.monotonic() - started < 2.5  # 2 s, and what a busy machine adds
            assert answer.json["code"] in ("store_unavailable", "outcome_unknown")
            assert int(answer.headers["Retry-After"]) >= 1
            assert "127.0.0.1" not in answer.body.decode()
        wait_until(lambda: server.get("/health").status == 503)
        assert server.get("/health/live").status == 200
        own_stores.restart_mongo()
        wait_until(lambda: submit(server).status == 201, timeout_s=20)
        wait_until(lambda: server.get("/health").status == 200)


def test_a_server_that_starts_before_its_stores_waits_and_says_so(own: Settings, own_stores: LocalStores) -> None:
    own_stores.kill_mongo()
    server = Server(own)
    try:
        server.start(wait=False)
        wait_until(lambda: "waiting for MongoDB" in server.output(), timeout_s=30)
        own_stores.restart_mongo()
        server.wait_ready()
        assert submit(server).status == 201
    finally:
        server.__exit__()


def test_no_accepted_job_is_lost_when_the_server_is_killed_under_load(start_server: Start) -> None:
    server = start_server()
    accepted: list[str] = []
    unknown = 0
    stop = threading.Event()
    lock = threading.Lock()

    def load(client: int) -> None:
        nonlocal unknown
        number = 0
        while not stop.is_set():
            number += 1
            try:
                answer = submit(server, number, tags=[f"client-{client}"])
            except OSError:
                with lock:
                    unknown += 1
                stop.wait(0.02)
                continue
            assert answer.status == 201
            with lock:
                accepted.append(answer.json["id"])

    threads = [threading.Thread(target=load, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            before = len(accepted)
            wait_until(lambda before=before: len(accepted) > before + 30, timeout_s=30)
            server.kill()
            server.start()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    with TaskQueue(server.settings) as queue:
        stored = queue.run(queue.core.control.ask(RECORDS, JobsRequest(ids=accepted)))
        assert {job.id for job in stored} == set(accepted)
        listed = queue.depths().high
        assert len(accepted) <= listed <= len(accepted) + unknown


def test_a_remote_queue_finds_its_server_again(start_server: Start) -> None:
    server = start_server()
    with TaskQueue(server.settings) as local:
        for task in ALL:
            local.add(task)
        remote = RemoteControl(server.http, TOKEN)
        received: list[Batch | Line] = []
        with Workers(local), TaskQueue(control=remote) as queue:

            async def listen() -> None:
                remote.subscribe(received.append)

            queue.run(listen())
            wait_until(lambda: Line.UP in received)
            first = queue.submit_call(add.bind(1))
            assert first.result(timeout=20) == 2
            slow = queue.submit_call(add.options(delay_s=2).bind(2))
            server.kill()
            wait_until(lambda: received[-1] is Line.DOWN)
            server.start()
            assert slow.result(timeout=30) == 3
            wait_until(lambda: received[-1] is not Line.DOWN)


def test_sigterm_finishes_what_is_under_way(start_server: Start) -> None:
    server = start_server()
    answers: list[int] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            try:
                answers.append(submit(server).status)
            except ConnectionRefusedError:
                return
            except OSError:
                answers.append(0)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(answers) > 20)
    started = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - started < 12
    stop.set()
    for thread in threads:
        thread.join()
    # A connection that was made and not read yet is closed; every request that was read was answered.
    assert set(answers) <= {201, 0}
    assert answers.count(0) <= 4
    assert '"level":"error"' not in server.output()


def test_several_processes_share_the_ports_and_are_started_again(start_server: Start) -> None:
    server = start_server("--processes", "2")
    assert server.process is not None
    parent = server.process.pid

    def children() -> list[int]:
        return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]

    first = children()
    assert len(first) == 2
    os.kill(first[0], signal.SIGKILL)
    wait_until(lambda: len(children()) == 2 and first[0] not in children())
    wait_until(lambda: submit(server).status == 201)
    assert server.stop() == 0
    for pid in {*first, *children_of(parent)}:
        wait_until(lambda pid=pid: not Path(f"/proc/{pid}").exists())


def children_of(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def test_no_token_and_no_password_is_ever_in_the_output(own: Settings, own_stores: LocalStores) -> None:
    canary = "canary-5f1e9c-token"
    settings = own.replace(token=canary, read_token=f"{canary}-read")
    password = own.redis_url.partition("://")[2].partition("@")[0].rpartition(":")[2]
    assert len(password) > 10
    with Server(settings) as server:
        for token in (canary, f"{canary}-read", f"{canary}-wrong"):
            for path in ("/jobs", f"/jobs?token={token}", f"/{token}" if token.endswith("wrong") else "/health"):
                server.get(path, token=token)
        server.post("/jobs", b"{", token=canary)
        server.post("/jobs", {"task": "add", "payload": {"a": "x"}}, token=canary)
        own_stores.kill_redis()
        own_stores.kill_mongo()
        assert server.post("/jobs", {"task": "add", "payload": {"a": 1}}, token=canary).status == 503
        assert server.get("/workers", token=canary).status == 503
        wait_until(lambda: "waiting for MongoDB and Redis" in server.output(), timeout_s=20)
        assert server.stop() == 0
        output = server.output().replace(f"/{canary}-read-wrong", "").replace(f"/{canary}-wrong", "")
    assert canary not in output
    assert password not in output


# -- other clients


def test_curl_is_a_client(server: Server) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("NO CURL ON THIS MACHINE: a client that is not ours was not tried")
    body = '{"task": "add", "payload": {"a": 20, "b": 22}}'
    done = subprocess.run(
        [
            *(curl, "-sS", "-w", "\n%{http_code}", "-H", f"Authorization: Bearer {TOKEN}"),
            *("-H", "Content-Type: application/json", "-d", body, f"{server.http}/api/jobs"),
        ],
        capture_output=True,
        text=True,
        timeout=30,
    )
    body, status = done.stdout.rsplit("\n", 1)
    assert (status, json.loads(body)["payload"]) == ("201", {"a": 20, "b": 22}), done.stderr


NODE = """
const [ws, http, token] = process.argv.slice(2);
const { createHash, randomBytes } = require("crypto");
let submitted = false, reported = false;
const url = new URL(ws);
const req = require("http").request({ host: url.hostname, port: url.port, path: url.pathname, headers: {
  Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Version": "13",
  "Sec-WebSocket-Key": randomBytes(16).toString("base64") } });
req.on("upgrade", (_, socket) => {
  let data = Buffer.alloc(0);
  const send = (text) => {
    const payload = Buffer.from(text), mask = randomBytes(4);
    const head = Buffer.from([0x81, 0x80 | payload.length, ...mask]);
    socket.write(Buffer.concat([head, payload.map((b, i) => b ^ mask[i % 4])]));
  };
  const hear = async (message) => {
    console.log(JSON.stringify(message));
    if (message.type === "snapshot") {
      const answer = await fetch(http + "/jobs", { method: "POST",
        headers: { Authorization: "Bearer " + token, "Content-Type": "application/json" },
        body: JSON.stringify({ task: "add", payload: { a: 1 }, tags: ["node"] }) });
      console.log(JSON.stringify({ type: "submitted", job: await answer.json() }));
      submitted = true;
    } else if (message.jobs && message.jobs.length) reported = true;
    if (submitted && reported) process.exit(0);
  };
  socket.on("data", (chunk) => {
    data = Buffer.concat([data, chunk]);
    for (;;) {
      if (data.length < 2) return;
      let size = data[1] & 127, start = 2;
      if (size === 126) { if (data.length < 4) return; size = data.readUInt16BE(2); start = 4; }
      else if (size === 127) { if (data.length < 10) return; size = Number(data.readBigUInt64BE(2)); start = 10; }
      if (data.length < start + size) return;
      if ((data[0] & 15) === 1) hear(JSON.parse(data.subarray(start, start + size)));
      data = data.subarray(start + size);
    }
  });
  send(JSON.stringify({ type: "hello", token }));
});
req.end();
setTimeout(() => process.exit(3), 20000);
"""


def test_node_is_a_client_of_the_stream(server: Server, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("NO NODE ON THIS MACHINE: a stream's client that is not ours was not tried")
    script = tmp_path / "client.cjs"
    script.write_text(NODE)
    done = subprocess.run(
        [node, str(script), server.ws, server.http, TOKEN], capture_output=True, text=True, timeout=40
    )
    assert done.returncode == 0, done.stdout + done.stderr
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    assert messages[0]["type"] == "snapshot"
    (submitted,) = [message["job"]["id"] for message in messages if message["type"] == "submitted"]
    reported = {job["id"] for message in messages if message["type"] == "events" for job in message.get("jobs", [])}
    assert submitted in reported


def test_metrics_of_several_processes_are_the_same_at_each(start_server: Start) -> None:
    server = start_server("--processes", "2")
    assert server.process is not None

    def received() -> tuple[float, set[str]]:
        text = server.get("/metrics", token=TOKEN).body.decode()
        lines = re.findall(r'^dtqkit_received_job_run_seconds_count{.*server="(.+?)".*} (.+)$', text, re.MULTILINE)
        return sum(float(n) for _, n in lines), {name for name, _ in lines}

    with TaskQueue(server.settings) as queue:
        for task in ALL:
            queue.add(task)
        with Workers(queue):
            add.map(range(40)).results(timeout=30)
            wait_until(lambda: received()[0] == 40)
            seen = [received() for _ in range(20)]  # each on a connection of its own, at one process or the other
            assert {n for n, _ in seen} == {40.0}
            (names,) = {frozenset(names) for _, names in seen}
            assert len(names) == 1
            os.kill(children_of(server.process.pid)[0], signal.SIGKILL)
            assert [received()[0] for _ in range(10)] == [40.0] * 10


def test_metrics_are_those_of_prometheus(start_server: Start) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    server = start_server()
    with TaskQueue(server.settings) as queue:
        for task in ALL:
            queue.add(task)
        with Workers(queue):
            assert add.submit(1).result(timeout=20) == 2

            def samples() -> dict[str, float]:
                text = server.get("/metrics", token=TOKEN).body.decode()
                found = [s for family in text_string_to_metric_families(text) for s in family.samples]
                return {f"{s.name}{sorted(s.labels.values())}": s.value for s in found}

            wait_until(lambda: samples().get("dtqkit_jobs_total['add', 'completed', 'high']") == 1)
            found = samples()
    assert found["dtqkit_jobs_total['add', 'high', 'pending']"] == 1
    for name in ("wait", "run"):  # of events that this process received
        counted = f"dtqkit_received_job_{name}_seconds_count['add', 'high'"
        assert [n for key, n in found.items() if key.startswith(counted)] == [1]
    assert found["dtqkit_store_up['redis']"] == 1
    assert sum(value for name, value in found.items() if name.startswith("dtqkit_workers[")) == 1


def test_health_costs_the_stores_nothing_however_often_it_is_asked(server: Server, mongo: Any) -> None:
    def operations() -> int:
        counters = mongo.admin.command("serverStatus")["metrics"]["commands"]
        return int(counters["ping"]["total"]) + int(counters["find"]["total"])

    before, started = operations(), time.monotonic()
    for _ in range(200):
        assert server.get("/health", token=None).status == 200
    seconds = time.monotonic() - started
    assert operations() - before < 20 + 10 * seconds
