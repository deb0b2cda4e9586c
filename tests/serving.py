"""A real server process on loopback, and a plain client for it."""

import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from pymongo import MongoClient
from pymongo.errors import BulkWriteError

from dtqkit.local import LocalStores
from dtqkit.model.settings import Settings
from dtqkit.run.supervisor import environment_of
from dtqkit.tasks.task import TaskInfo
from tests.wait import wait_until

ROOT = Path(__file__).parents[1]
TOKEN = "write-token-of-a-test-0123456789"
READ_TOKEN = "read-token-of-a-test-0123456789"
COMMAND = "import typer; from dtqkit.cli.server import server; typer.run(server)"


class Answer(NamedTuple):
    """Of one request."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """`dtqkit server` in a process of its own; its output is kept in a file."""

    def __init__(self, settings: Settings, *arguments: str, environ: Mapping[str, str] | None = None) -> None:
        self.settings = settings
        self._directory = tempfile.TemporaryDirectory(prefix="dtqkit-server-")
        self.log = Path(self._directory.name) / "log"
        self._ready = Path(self._directory.name) / "ready.json"
        self._arguments = arguments
        self._environ = dict(environ or {})
        self.command: tuple[str, ...] = (sys.executable, "-c", COMMAND)
        self.process: subprocess.Popen[bytes] | None = None
        self.http = self.ws = self.token = ""

    def start(self, *, wait: bool = True) -> Self:
        ports = ["--port", str(self.settings.port), "--ws-port", str(self.settings.ws_port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.command, *ports, "--ready-file", str(self._ready), *self._arguments],
                cwd=ROOT,
                env={**os.environ, **environment_of(self.settings), **self._environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, timeout_s: float = 30) -> None:
        """Until jobs are accepted. The ports that it got are kept for the next start."""

        def ready() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.output()
            return self._ready.exists()

        wait_until(ready, timeout_s, message="the server is not ready")
        facts = json.loads(self._ready.read_text())
        self.http, self.ws, self.token = facts["http"], facts["ws"], facts["token"]
        self.settings = self.settings.replace(port=urlsplit(self.http).port, ws_port=urlsplit(self.ws).port)

    def output(self) -> str:
        return self.log.read_text()

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self.process = None
        return status

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._directory.cleanup()

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = TOKEN,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 20,
    ) -> Answer:
        """One request on a connection of its own; a body that is not bytes is sent as JSON."""
        sent = dict(headers or {})
        if token is not None:
            sent.setdefault("Authorization", f"Bearer {token}")
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
        address = urlsplit(self.http)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=timeout_s)
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def get(self, path: str, **how: Any) -> Answer:
        return self.ask("GET", path, **how)

    def post(self, path: str, body: Any = None, **how: Any) -> Answer:
        return self.ask("POST", path, body, **how)


def settings_for(stores: LocalStores, namespace: str, **changes: Any) -> Settings:
    """Settings of a test: its stores, its namespace, any ports, both tokens."""
    given: dict[str, Any] = {
        "redis_url": stores.redis_url,
        "atlas_uri": stores.atlas_uri,
        "namespace": namespace,
        "port": 0,
        "ws_port": 0,
        "drain_s": 0.0,
        "token": TOKEN,
        "read_token": READ_TOKEN,
    }
    return Settings().replace(**{**given, **changes})


def publish(settings: Settings, infos: Iterable[TaskInfo]) -> None:
    """Put tasks into the catalogue, as a worker does when it starts."""
    import asyncio

    from dtqkit.store import Store

    async def run() -> None:
        store = Store(settings)
        await store.open()
        await store.catalogue.publish(infos)
        await store.close()

    asyncio.run(run())


@contextmanager
def fresh_namespace(stores: LocalStores) -> Generator[str]:
    """A namespace for a server that several tests share; its database is dropped afterwards."""
    namespace = f"t{secrets.token_hex(5)}"
    yield namespace
    with MongoClient[dict[str, Any]](stores.atlas_uri) as mongo:
        mongo.drop_database(settings_for(stores, namespace).database_name)


def fill(settings: Settings, docs: list[dict[str, Any]]) -> None:
    """Insert documents as they are."""
    with MongoClient[dict[str, Any]](settings.atlas_uri) as mongo:
        try:
            mongo[settings.database_name]["jobs"].insert_many(docs, ordered=False)
        except BulkWriteError as error:
            raise AssertionError(str(error.details)[:500]) from None
