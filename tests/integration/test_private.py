"""What other users of this machine, and children that need no secrets, can get at."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure
from redis import Redis
from redis.exceptions import AuthenticationError

from dtqkit import TaskQueue
from dtqkit.local import LocalStores, start_local_stores
from dtqkit.local.private import make_private, open_private
from dtqkit.model.settings import SECRET, variables
from dtqkit.model.starting import LocalStoreError
from tests import child_tasks
from tests.command import children_with, descendants, running
from tests.wait import wait_until
from tests.workers import Workers

CANARY = "canary-0123456789"
SECRETS = {"DTQ_TOKEN": CANARY, "DTQ_READ_TOKEN": f"{CANARY}-r", "SENTRY_DSN": f"https://{CANARY}@sentry.invalid/1"}


def environment_of_process(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def test_neither_store_answers_without_a_password(stores: LocalStores) -> None:
    mongo, redis = urlsplit(stores.atlas_uri), urlsplit(stores.redis_url)
    with MongoClient[dict[str, Any]](mongo.hostname, mongo.port, directConnection=True) as stranger:
        for ask in (
            {"listDatabases": 1},
            {"createUser": "me", "pwd": "mine", "roles": ["root"]},
            {"serverStatus": 1},
        ):
            with pytest.raises(OperationFailure, match=r"requires authentication|not authorized"):
                stranger.admin.command(ask)
        with pytest.raises(OperationFailure):
            stranger["d"]["jobs"].find_one({})
    with (
        Redis(host=redis.hostname or "", port=redis.port or 0) as stranger,
        pytest.raises(AuthenticationError),
    ):
        stranger.ping()


def test_no_command_line_shows_a_password(stores: LocalStores) -> None:
    passwords = [urlsplit(url).password or "" for url in (stores.redis_url, stores.atlas_uri)]
    for pid in (*stores.pids.values(), os.getpgid(stores.pids["redis"])):
        line = Path(f"/proc/{pid}/cmdline").read_text()
        assert not any(password in line for password in passwords)


def test_the_stores_and_their_watcher_inherit_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*SECRETS, "REDIS_URL", "ATLAS_URI", "MY_OWN_PASSWORD"):
        monkeypatch.setenv(name, CANARY)
    with start_local_stores(tmp_path / "data") as stores:
        for pid in (*stores.pids.values(), os.getpgid(stores.pids["redis"])):
            assert CANARY.encode() not in environment_of_process(pid)
        for file in (tmp_path / "data").iterdir():
            assert file.stat().st_mode & 0o077 == 0, file


def test_a_directory_that_others_may_write_into_is_refused_with_the_cure(tmp_path: Path) -> None:
    open_to_all = tmp_path / "data"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.raises(LocalStoreError, match="chmod 700"):
        start_local_stores(open_to_all)
    open_to_all.chmod(0o755)
    make_private(open_to_all)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    with pytest.raises(LocalStoreError, match="belongs to user 65534"):
        start_local_stores(tmp_path)


@pytest.mark.parametrize("name", ["lock", "watcher.log", "redis.log", "mongod.log", "redis", "mongod", "mongod.key"])
def test_a_planted_symbolic_link_is_not_followed(tmp_path: Path, name: str) -> None:
    victim, data = tmp_path / "victim", tmp_path / "data"
    data.mkdir(mode=0o700)
    if name in ("redis", "mongod"):
        victim.mkdir(mode=0o700)
    else:
        victim.write_text("untouched")
    (data / name).symlink_to(victim)
    if name == "mongod.key":  # it is created again, in place of whatever is there
        start_local_stores(data).close()
    else:
        with pytest.raises(LocalStoreError, match=r"link|Too many levels"):
            start_local_stores(data)
    assert list(victim.iterdir()) == [] if victim.is_dir() else victim.read_text() == "untouched"


def test_a_data_directory_that_is_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir(mode=0o700)
    (tmp_path / "data").symlink_to(tmp_path / "mine")
    with pytest.raises(LocalStoreError, match="name what it points to"):
        start_local_stores(tmp_path / "data")
    assert list((tmp_path / "mine").iterdir()) == []


def test_a_file_is_made_for_its_owner_only(tmp_path: Path) -> None:
    os.close(open_private(tmp_path / "file", os.O_WRONLY))
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def test_a_child_has_no_secrets_in_its_environment_and_still_submits(
    queue: TaskQueue, worker: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    for field in SECRET:
        for name in variables(field):
            monkeypatch.setenv(name, CANARY)
    monkeypatch.setenv("KEPT", "kept")
    queue.include("tests.child_tasks")
    seen = child_tasks.environment.submit().result(timeout=30)
    assert CANARY not in str(seen)
    assert seen["KEPT"] == "kept"
    assert len(child_tasks.submit_in_child.submit().result(timeout=30)) == 3


def test_up_with_a_read_token_alone_makes_a_token_that_may_write(tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    arguments = ("up", "--workers", "1", "--port", "0", "--ws-port", "0", "--ready-file", str(ready))
    secrets: dict[str, Any] = {"DTQ_READ_TOKEN": CANARY, "DTQ_TOKEN": "", "SENTRY_DSN": ""}
    with running(*arguments, log=tmp_path / "log", **secrets) as up:
        wait_until(ready.exists, 60)
        facts = json.loads(ready.read_text())
        assert facts["token"] not in ("", CANARY)
        with TaskQueue.connect(facts["http"], token=facts["token"]) as queue:
            assert queue.requeue_dead().matched == 0  # it needs the scope "write"
        # Workers serve no requests: they have no token.
        (worker,) = children_with(up.pid, b"worker")
        assert CANARY.encode() not in environment_of_process(worker)
        password = urlsplit(facts["atlas_uri"]).password or ""
        for pid in descendants(up.pid):
            assert password not in Path(f"/proc/{pid}/cmdline").read_text(), pid
