"""Who may do what: scopes of every route, tokens, origins, and what a server refuses to be."""

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dtqkit.control import OPERATIONS
from dtqkit.control.operations import HEALTH
from dtqkit.model.errors import SettingsError
from dtqkit.model.settings import Settings
from dtqkit.web import pages
from dtqkit.web.access import BURST, Origins, TokenAuth, forwarded_address
from tests.routes import of_table, scopes
from tests.serving import COMMAND, READ_TOKEN, ROOT, TOKEN, Server

Start = Callable[..., Server]

#: The files of the dashboard, which hold nothing of a queue.
((FILES, _),) = pages.routes

#: Every route that is no operation, with its scope: a new one fails here until it is written down.
SCOPES = {
    ("GET", "/health/live"): "open",
    ("GET", "/metrics"): "read",
    ("GET", "/openapi.json"): "open",
    ("GET", FILES): "open",
    ("GET", "/ws"): "open",  # the hello has the token
}


def test_every_route_has_the_scope_that_is_written_down() -> None:
    assert scopes() == SCOPES | of_table()


def test_an_operation_that_may_change_something_needs_the_scope_write_and_every_other_one_read() -> None:
    found = {operation: operation.scope for operation in OPERATIONS if operation is not HEALTH}
    assert found == {operation: "write" if operation.method != "GET" else "read" for operation in found}
    assert (HEALTH.method, HEALTH.scope) == ("GET", "open")


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_each_scope_is_asked_for(server: Server, operation: Any) -> None:
    path = operation.path.format(id="0123456789abcdef01234567", name="nightly")
    body = {} if operation.method == "POST" else None
    statuses = [server.ask(operation.method, path, body, token=token).status for token in (None, READ_TOKEN, TOKEN)]
    match operation.scope:
        case "open":
            assert statuses[0] == 200
        case "read":
            assert statuses[0] == 401
            assert statuses[1] == statuses[2] in (200, 404)
        case _:
            assert statuses[:2] == [401, 403]
            assert statuses[2] not in (401, 403)


def test_a_token_in_the_address_is_no_token(server: Server) -> None:
    assert server.get(f"/jobs?token={TOKEN}", token=None).status == 401


def test_many_wrong_tokens_are_429_and_a_right_one_passes_whatever_they_do() -> None:
    now = 1000.0
    token_auth = TokenAuth(Settings(token="right"), clock=lambda: now)
    codes: list[str] = []

    def ask(token: str, address: str) -> str:
        try:
            token_auth.check(f"Bearer {token}", address, "read")
        except Exception as error:
            return str(getattr(error, "code", error))
        return "in"

    codes = [ask("wrong", "10.0.0.1") for _ in range(BURST + 5)]
    assert codes == ["unauthorized"] * BURST + ["too_many_attempts"] * 5
    assert ask("right", "10.0.0.1") == "in"
    assert ask("wrong", "10.0.0.2") == "unauthorized"
    assert ask("wrong", "10.0.0.1") == "too_many_attempts"
    now += 3.5
    assert [ask("wrong", "10.0.0.1"), ask("wrong", "10.0.0.1")] == ["unauthorized", "too_many_attempts"]


def test_the_server_answers_429_with_retry_after(start_server: Start) -> None:
    server = start_server()
    answers = [server.get("/jobs", token="wrong") for _ in range(BURST + 3)]
    assert [answer.status for answer in answers[:BURST]] == [401] * BURST
    assert answers[-1].status == 429
    assert int(answers[-1].headers["Retry-After"]) >= 1


def test_behind_a_proxy_its_word_counts_and_no_other(start_server: Start) -> None:
    """The last address of X-Forwarded-For is the proxy's word; all else is what the client wrote."""
    server = start_server(behind_proxy=True)

    def ask(token: str, claimed: str, **headers: str) -> int:
        return server.get("/jobs", token=token, headers={"X-Forwarded-For": claimed, **headers}).status

    tries = [ask("wrong", f"9.9.9.{n}, 10.0.0.1", **{"X-Real-Ip": f"8.8.8.{n}"}) for n in range(BURST + 2)]
    assert tries == [401] * BURST + [429] * 2
    assert ask("wrong", "10.0.0.1, 10.0.0.2") == 401
    assert ask("wrong", "9.9.9.9, 10.0.0.1:4711") == 429  # with the port that some proxies add
    assert ask(TOKEN, "9.9.9.9, 10.0.0.1") == 200


@pytest.mark.parametrize(
    ("forwarded", "proxies", "address"),
    [
        ("203.0.113.9", 1, "203.0.113.9"),
        ("1.1.1.1, 203.0.113.9", 1, "203.0.113.9"),
        ("1.1.1.1,203.0.113.9,172.68.1.1", 2, "203.0.113.9"),  # a CDN, then the host's balancer
        ("203.0.113.9", 2, "203.0.113.9"),
        ("203.0.113.9:4711", 1, "203.0.113.9"),
        ("[2001:db8::1]:4711", 1, "2001:db8::1"),
        ("[2001:db8::1]", 1, "2001:db8::1"),
        ("2001:DB8:0::1", 1, "2001:db8::1"),
        ("::ffff:203.0.113.9", 1, "203.0.113.9"),
        ("unknown", 1, None),
        ("203.0.113.9, _hidden", 1, None),
        ("203.0.113.9,", 1, None),
        ("", 1, None),
        ("[", 1, None),
        ("localhost:80", 1, None),
    ],
)
def test_the_address_that_a_trusted_proxy_forwards_for(forwarded: str, proxies: int, address: str | None) -> None:
    assert forwarded_address(forwarded, proxies) == address


def test_the_number_of_proxies_is_a_setting() -> None:
    values = ("", "0", "false", "1", "true", "2")
    assert [int(Settings.from_env({"DTQ_BEHIND_PROXY": v}).behind_proxy) for v in values] == [0, 0, 0, 1, 1, 2]
    with pytest.raises(SettingsError, match="DTQ_BEHIND_PROXY"):
        Settings.from_env({"DTQ_BEHIND_PROXY": "-1"})


def test_the_server_lets_a_right_token_pass_among_many_wrong_ones(start_server: Start) -> None:
    server = start_server()
    statuses = [server.get("/jobs", token=token).status for _ in range(BURST + 5) for token in ("wrong", TOKEN)]
    assert set(statuses[1::2]) == {200}
    assert statuses[-2] == 429


def test_forwarded_addresses_are_left_alone_unless_a_proxy_is_trusted(start_server: Start) -> None:
    server = start_server()
    tries = [
        server.get("/jobs", token="wrong", headers={"X-Forwarded-For": f"10.0.0.{n}"}).status for n in range(BURST + 2)
    ]
    assert tries[-1] == 429
    assert server.output().count("DTQ_BEHIND_PROXY") == 1


def test_one_port_for_both_is_enough(start_server: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = start_server(port=port, ws_port=port)
    assert (server.http, server.ws) == (f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}/ws")
    assert server.get("/jobs").status == 200


def test_two_tokens_are_compared_as_bytes() -> None:
    token_auth = TokenAuth(Settings(token="pässwörd"))
    token_auth.check_token("pässwörd".encode(), "", "write")
    token_auth.check("Bearer " + "pässwörd".encode().decode("latin-1"), "", "write")
    with pytest.raises(Exception, match="not accepted"):
        token_auth.check_token(b"p", "", "read")


# -- origins


@pytest.mark.parametrize(
    ("origin", "trusted"),
    [
        ("https://queue.example", True),
        ("https://board.example", True),
        ("https://board.example.evil", False),
        ("http://board.example", False),
        ("http://127.0.0.1:3000", True),
        ("http://127.0.0.1:8080", True),
        ("http://127.0.0.1:8888", False),
        ("http://127.0.0.1:x", False),
        ("null", False),
        ("", False),
    ],
)
def test_pages_that_may_write(origin: str, trusted: bool) -> None:
    settings = Settings(allowed_hosts=("queue.example",), cors_origins=("https://board.example",))
    origins = Origins(settings, "127.0.0.1")
    origins.ports |= {3000, 8080}
    assert origins.trusts(origin, "127.0.0.1:3000") is trusted


def test_cors_is_an_exact_list(start_server: Start) -> None:
    server = start_server(cors_origins=("https://board.example",))
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    good = server.ask("OPTIONS", "/jobs", token=None, headers={"Origin": "https://board.example", **asked})
    assert good.status == 204
    assert good.headers["Access-Control-Allow-Origin"] == "https://board.example"
    assert "Authorization" in good.headers["Access-Control-Allow-Headers"]
    assert "Access-Control-Allow-Credentials" not in good.headers
    bad = server.ask("OPTIONS", "/jobs", token=None, headers={"Origin": "https://board.example.evil", **asked})
    assert "Access-Control-Allow-Origin" not in bad.headers
    origin = {"Origin": "https://board.example"}
    written = server.post("/jobs", {"task": "add", "payload": {"a": 1}}, headers=origin)
    assert (written.status, written.headers["Access-Control-Allow-Origin"]) == (201, "https://board.example")
    assert server.get("/jobs", token="wrong", headers=origin).headers["Access-Control-Allow-Origin"]


def test_dev_lets_loopback_pages_in(start_server: Start) -> None:
    server = start_server("--dev")
    headers = {"Origin": "http://localhost:5173"}
    assert server.post("/jobs", {"task": "add", "payload": {"a": 1}}, headers=headers).status == 201
    headers = {"Origin": "http://evil.example"}
    assert server.post("/jobs", {"task": "add", "payload": {"a": 1}}, headers=headers).status == 403


def test_cors_for_everybody_is_refused() -> None:
    with pytest.raises(SettingsError, match="CORS_ORIGINS"):
        Origins(Settings(cors_origins=("*",)), "127.0.0.1")


# -- what a server refuses to be


def run_server(settings: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("DTQ_")} | settings
    ports = ["--port", "0", "--ws-port", "0"]
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *ports, *arguments],
        cwd=ROOT,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_without_a_token_the_server_listens_on_loopback_only() -> None:
    done = run_server({}, "--host", "0.0.0.0")  # noqa: S104
    assert done.returncode != 0
    assert "DTQ_TOKEN is not set" in done.stderr


def test_a_made_token_goes_nowhere_without_a_terminal_or_a_ready_file() -> None:
    done = run_server({})
    assert done.returncode != 0
    assert "DTQ_TOKEN is not set" in done.stderr


def test_a_made_token_is_in_the_ready_file_only(start_server: Start, tmp_path: Path) -> None:
    server = start_server(token="", read_token="")
    ready = next(Path(server.log.parent).glob("ready.json"))
    assert stat.S_IMODE(ready.stat().st_mode) == 0o600
    token = json.loads(ready.read_text())["token"]
    assert len(token) >= 32
    assert server.get("/jobs", token=token).status == 200
    assert server.get("/jobs", token=None).status == 401
    assert token not in server.output()
    assert server.stop() == 0
    assert not ready.exists()


# -- headers


def test_every_answer_has_the_security_headers(server: Server) -> None:
    for path in ("/", "/jobs", "/health", "/nothing", "/openapi.json"):
        headers = server.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "frame-ancestors" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert "Server" not in headers


def test_a_request_id_is_kept_or_made_and_logged(server: Server) -> None:
    given = server.get("/health/live", headers={"X-Request-Id": "mine-12345678"})
    assert given.headers["X-Request-Id"] == "mine-12345678"
    forged = server.get("/health/live", headers={"X-Request-Id": 'x"}\\ninjected'})
    assert forged.headers["X-Request-Id"] != 'x"}\\ninjected'
    lines = [json.loads(line) for line in server.output().splitlines() if line.startswith("{")]
    mine = [line for line in lines if line.get("request_id") == "mine-12345678"]
    assert [(line["method"], line["path"], line["status"]) for line in mine] == [("GET", "/health/live", 200)]
