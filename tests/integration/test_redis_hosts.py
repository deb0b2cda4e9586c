"""Redis as hosts have it: users with few rights, little memory, few connections, TLS, and shared by mistake."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from dtqkit import DtqError, NamespaceTaken, Settings, SettingsError, StoreUnavailable, TaskQueue
from dtqkit.broker import Broker
from dtqkit.broker.client import POOL
from dtqkit.broker.keys import Keys
from dtqkit.broker.rights import COMMANDS, UNTRIED, used_keys
from dtqkit.local import LocalStores
from tests import sample
from tests.command import dtqkit
from tests.redis_servers import HOST, RedisProcess, free_port, programs, redis_server, version
from tests.wait import wait_until
from tests.workers import Workers

PROGRAMS = [pytest.param(program, id=version(program)) for program in programs()]


# -- rights


def exact_rights(namespace: str) -> list[str]:
    """What the README says, for one namespace."""
    commands = [f"+{name}" for name in (*COMMANDS, *UNTRIED)]
    return ["resetkeys", f"~{namespace}:*", "resetchannels", f"&{namespace}:*", "-@all", *commands]


def user_url(server: RedisProcess, *rights: str) -> str:
    server.redis.execute_command("ACL", "SETUSER", "app", "on", ">canary", *rights)
    return f"redis://app:canary@{HOST}:{server.port}/0"


def denials(server: RedisProcess) -> set[str]:
    return {str(entry["object"]) for entry in server.redis.acl_log()}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("rights", ["exact", "+@all -@dangerous", "+@all -@dangerous -@scripting +eval +evalsha"])
def test_a_user_with_these_rights_is_enough(settings: Settings, tmp_path: Path, program: Path, rights: str) -> None:
    with redis_server(tmp_path, program=program) as server:
        given = exact_rights(settings.namespace) if rights == "exact" else ["~*", "&*", *rights.split()]
        with TaskQueue(settings.replace(redis_url=user_url(server, *given))) as queue:
            queue.include("tests.sample")
            with Workers(queue):
                assert sample.add.submit(1).result(timeout=20) == 2
                assert sample.add_async.options(delay_s=0.3).submit(1).result(timeout=20) == 2
                slow = sample.sleep_async.submit(60)
                wait_until(lambda: slow.refresh().status == "running")
                slow.cancel()
                wait_until(lambda: slow.refresh().status == "cancelled")
                assert [worker.name for worker in queue.workers()] == ["w1"]
                server.redis.flushall()  # without INFO, a new epoch is known by its absence
                assert sample.add_async.map(range(5)).results(timeout=20) == [1, 2, 3, 4, 5]
            started = time.monotonic()
        assert time.monotonic() - started < 5
        # INFO alone is asked for without need: it says when Redis is another one, and whether it may evict keys.
        assert denials(server) <= {"info"}


def test_a_worker_names_the_rights_that_are_missing_and_does_not_start(settings: Settings, tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        rights = [right for right in exact_rights(settings.namespace) if right not in ("+lpop", "+zadd")]
        with TaskQueue(settings.replace(redis_url=user_url(server, *rights))) as queue:
            with pytest.raises(StoreUnavailable, match=r"lacks rights that dtqkit needs: the commands \+lpop \+zadd"):
                Workers(queue).__enter__()
            done = dtqkit("worker", "tests.hosts_app:queue", settings=queue.settings)
    assert done.returncode == 1
    assert "+lpop +zadd" in done.stderr
    assert "canary" not in done.stderr


def test_a_worker_names_the_keys_that_it_may_not_use(settings: Settings, tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        rights = ["~nothing:*", f"~{settings.namespace}:queue:*", "&*", "+@all"]
        url = user_url(server, *rights)
        with (
            TaskQueue(settings.replace(redis_url=url)) as queue,
            pytest.raises(StoreUnavailable, match=rf"the keys ~{settings.namespace}:workers ~"),
        ):
            Workers(queue).__enter__()


#: What users of Redis were given who may use the queue's keys only: an upgrade must not ask for more.
PATTERNS = ("queue:*", "workers", "worker:*", "leader", "epoch", "epoch:building", "rounds", "job:*", "cancels")


def test_every_key_has_a_name_that_users_patterns_allow() -> None:
    keys = Keys.of("")
    names = [*used_keys(keys), keys.probe]
    assert [name for name in names if not any(fnmatchcase(name, pattern) for pattern in PATTERNS)] == []


def test_a_password_is_enough(settings: Settings, tmp_path: Path) -> None:
    with (
        redis_server(tmp_path, password="ca:na/ry") as server,
        TaskQueue(settings.replace(redis_url=f"redis://:ca%3Ana%2Fry@{HOST}:{server.port}/0")) as queue,
    ):
        queue.include("tests.sample")
        with Workers(queue):
            assert sample.add.submit(1).result(timeout=20) == 2


# -- two environments


@pytest.fixture
def other(stores: LocalStores, namespace: str, settings: Settings) -> Settings:
    """Another record's, which shares Redis and the namespace by mistake."""
    return settings.replace(database=f"other{namespace[:8]}")


def test_another_environment_on_the_same_redis_is_refused_everywhere_and_takes_nothing(
    queue: TaskQueue, settings: Settings, other: Settings
) -> None:
    first = sample.add_async.submit(1)
    with TaskQueue(other) as theirs:
        theirs.include("tests.sample")
        with pytest.raises(NamespaceTaken, match="DTQ_NAMESPACE"):
            sample.add_async.submit(1)
        with pytest.raises(NamespaceTaken, match="DTQ_NAMESPACE"):
            theirs.jobs()
        with pytest.raises(NamespaceTaken):
            Workers(theirs).__enter__()
    for command in (["worker", "tests.hosts_app:queue"], ["jobs"]):
        done = dtqkit(*command, settings=other)
        assert done.returncode == 1
        assert "DTQ_NAMESPACE" in done.stderr
        assert f"redis-cli -u REDIS_URL DEL {settings.namespace}:queue:record" in done.stderr
    with Workers(queue):
        assert first.result(timeout=20) == 2


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_server_of_another_environment_does_not_start(
    queue: TaskQueue, settings: Settings, other: Settings, processes: str
) -> None:
    sample.add_async.submit(1).cancel()
    done = dtqkit(
        "server", "--processes", processes, settings=other.replace(token="0123456789abcdef", port=0, ws_port=0)
    )
    assert done.returncode == 1
    assert "DTQ_NAMESPACE" in done.stdout + done.stderr


def test_a_worker_stops_taking_jobs_when_another_environment_took_the_namespace(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After a flush, the first environment has it: the ids of the others stay where they are."""
    with redis_server(tmp_path) as server:
        own = settings.replace(redis_url=server.url)
        lane, record = f"{own.namespace}:queue:medium", f"{own.namespace}:queue:record"
        with TaskQueue(own) as queue:
            queue.include("tests.sample")
            with Workers(queue):
                assert sample.add_async.submit(1).result(timeout=20) == 2
                ours = server.redis.get(record)
                server.redis.set(record, "another")
                # A blocking pop that is under way may bring one id more.
                server.redis.rpush(lane, "a" * 24)
                for part in ("cannot fetch", "cannot send a heartbeat", "cannot lead"):
                    wait_until(lambda part=part: re.search(f"{part}.*DTQ_NAMESPACE", caplog.text) is not None)
                server.redis.delete(lane)
                server.redis.rpush(lane, *["b" * 24] * 20)
                late = sample.add_async.submit(2)
                wait_until(lambda: "the job is safe in MongoDB" in caplog.text)
                assert server.redis.lrange(lane, 0, -1) == ["b" * 24] * 20
                assert late.refresh().status == "pending"

                server.redis.delete(lane)
                server.redis.delete(record)
                wait_until(lambda: server.redis.get(record) == ours, timeout_s=20)
                assert sample.add_async.submit(3).result(timeout=20) == 4
                assert late.result(timeout=20) == 3


def test_a_redis_that_was_away_and_comes_back_as_another_environments_takes_no_jobs(
    settings: Settings, tmp_path: Path
) -> None:
    port = free_port()
    own = settings.replace(redis_url=f"redis://{HOST}:{port}/0")
    with TaskQueue(own) as queue:
        queue.include("tests.sample")
        sample.add_async.submit(1)
        with redis_server(tmp_path, port=port) as server:
            record = f"{own.namespace}:queue:record"
            server.redis.set(record, "another")
            with pytest.raises(NamespaceTaken, match="DTQ_NAMESPACE"):
                sample.add_async.submit(2)
            assert len(queue.jobs().items) == 1
            server.redis.delete(record)
            sample.add_async.submit(3)
            wait_until(lambda: bool(server.redis.get(record)))


# -- full


def fill(server: RedisProcess) -> None:
    server.redis.config_set("maxmemory", 1)


def drain(server: RedisProcess) -> None:
    server.redis.config_set("maxmemory", 0)


def test_what_a_full_redis_refused_is_listed_as_soon_as_there_is_room(settings: Settings, tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        own = settings.replace(redis_url=server.url, lease_s=600)  # whose rounds come too late
        with TaskQueue(own) as queue:
            queue.include("tests.sample")
            with Workers(queue):
                assert sample.add_async.submit(1).result(timeout=20) == 2
                fill(server)
                jobs = [sample.add_async.submit(n) for n in range(5)]
                later = sample.add_async.options(delay_s=0.5).submit(10)
                assert {job.refresh().status for job in jobs} == {"pending"}
                drain(server)
                wait_until(lambda: all(job.refresh().status == "completed" for job in jobs), timeout_s=15)
                assert later.result(timeout=15) == 11
                assert {job.refresh().record.claim_number for job in jobs} == {1}


def on_broker(settings: Settings, story: Callable[[Broker], Awaitable[None]]) -> None:
    async def run() -> None:
        broker = Broker(settings)
        try:
            await story(broker)
        finally:
            await broker.close()

    asyncio.run(run())


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_full_redis_gives_what_it_lists_and_loses_no_id(settings: Settings, tmp_path: Path, program: Path) -> None:
    with redis_server(tmp_path, program=program) as server:

        async def story(broker: Broker) -> None:
            first, second, third = (letter * 24 for letter in "abc")
            await broker.push({"high": [first, second, third]})
            fill(server)
            popped = await broker.fetch(["high"], 1, [])
            assert popped == [f"high:{first}"]
            assert await broker.take([f"high:{second}"]) == [f"high:{second}"]
            with pytest.raises(StoreUnavailable, match="raise maxmemory"):
                await broker.unpop([f"high:{second}"])
            with pytest.raises(StoreUnavailable, match="raise maxmemory"):
                await broker.lead("x", 1.0)
            with pytest.raises(StoreUnavailable):
                await broker.look(1.0)
            assert broker.condition.takes_writes is False
            assert (broker.condition.kind, "OOM" in broker.condition.refusal) == ("full", True)
            # What was popped and is not claimed is swept back when its time is over.
            inflight = server.redis.zrange(f"{settings.namespace}:queue:inflight", 0, -1)
            assert sorted(inflight) == [f"high:{first}", f"high:{second}"]
            assert server.redis.lrange(f"{settings.namespace}:queue:high", 0, -1) == [third]
            drain(server)
            await broker.look(1.0)
            assert broker.condition.takes_writes is True

        on_broker(settings.replace(redis_url=server.url), story)


# -- connections


def test_many_reads_at_once_share_a_small_pool(settings: Settings, stores: LocalStores, tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:

        async def story(broker: Broker) -> None:
            await asyncio.gather(*(broker.live_progress(["a" * 24]) for _ in range(200)))
            names = [client["name"] for client in server.redis.client_list()]
            assert names.count("dtqkit") == POOL

        on_broker(settings.replace(redis_url=server.url), story)


def test_a_worker_uses_no_more_connections_than_documented(settings: Settings, tmp_path: Path) -> None:
    with redis_server(tmp_path) as server, TaskQueue(settings.replace(redis_url=server.url)) as queue:
        queue.include("tests.sample")
        with Workers(queue):
            sample.add_async.map(range(200)).results(timeout=30)
            # A pool for the client and one for the worker, its blocking pop, its beat.
            assert len([one for one in server.redis.client_list() if one["name"] == "dtqkit"]) <= 2 * POOL + 2


def test_a_redis_without_a_free_connection_is_reported(settings: Settings, tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        server.redis.config_set("maxclients", 1)
        with (
            TaskQueue(settings.replace(redis_url=server.url)) as queue,
            pytest.raises(StoreUnavailable, match="no connection left: raise maxclients"),
        ):
            queue.workers()


# -- TLS, names and ports


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a CA of our own: server.crt, client.crt and their keys; other.pem is of another CA."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on PATH: TLS with Redis is not tried")
    home = tmp_path_factory.mktemp("tls")

    def openssl(*args: str) -> None:
        subprocess.run(["openssl", *args], cwd=home, check=True, capture_output=True)

    for name in ("ca", "other"):
        openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"),
            *("-keyout", f"{name}.key", "-out", f"{name}.pem"),
        )
    for name, extension in (("server", "subjectAltName=IP:127.0.0.1"), ("client", "extendedKeyUsage=clientAuth")):
        (home / f"{name}.ext").write_text(extension)
        openssl(
            "req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", "/CN=x"
        )
        openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-out", f"{name}.crt", "-days", "2", "-extfile", f"{name}.ext"),
        )
    return home


@pytest.fixture
def tls(certificates: Path, tmp_path: Path) -> Iterator[RedisProcess]:
    """A server whose TLS port, one above its plain one, asks for a client certificate."""
    options = (
        *("--tls-cert-file", certificates / "server.crt", "--tls-key-file", certificates / "server.key"),
        *("--tls-ca-cert-file", certificates / "ca.pem", "--tls-port", 0),
    )
    for program in reversed(programs()):  # the wheel's may be built without TLS
        try:
            with redis_server(tmp_path, *options, program=program) as server:
                yield server
                return
        except AssertionError:
            continue
    pytest.skip("no redis-server here speaks TLS")


def refusal(settings: Settings, url: str) -> str:
    started = time.monotonic()
    with pytest.raises(DtqError) as error, TaskQueue(settings.replace(redis_url=url)) as queue:
        queue.workers()
    assert time.monotonic() - started < 10
    assert "canary" not in f"{error.value} {error.value!r}"
    assert "\n" not in str(error.value)
    return str(error.value)


def test_tls_with_a_ca_and_a_client_certificate_of_our_own(
    settings: Settings, certificates: Path, tls: RedisProcess
) -> None:
    tls.redis.config_set("tls-port", tls.port + 1)
    base = f"rediss://:canary@{HOST}:{tls.port + 1}/0"
    ca, other = f"ssl_ca_certs={certificates}/ca.pem", f"ssl_ca_certs={certificates}/other.pem"
    ours = f"ssl_certfile={certificates}/client.crt&ssl_keyfile={certificates}/client.key"
    tls.redis.config_set("requirepass", "canary")
    with TaskQueue(settings.replace(redis_url=f"{base}?{ca}&{ours}")) as queue:
        queue.include("tests.sample")
        with Workers(queue):
            assert sample.add.submit(1).result(timeout=20) == 2

    said = {
        "not trusted": refusal(settings, f"{base}?{other}&{ours}"),
        "name the file of its CA": refusal(settings, base),
        "asks for a client certificate": refusal(settings, f"{base}?{ca}"),
        "a port that does not speak TLS does not answer": refusal(
            settings, f"rediss://:canary@{HOST}:{tls.port}/0?{ca}"
        ),
        "write rediss://": refusal(settings, f"redis://:canary@{HOST}:{tls.port + 1}/0"),
        "cannot be read: No such file": "",
    }
    with pytest.raises(SettingsError, match="cannot be read: No such file") as missing:
        TaskQueue(settings.replace(redis_url=f"{base}?ssl_ca_certs=/no/such.pem")).workers()
    said["cannot be read: No such file"] = str(missing.value)
    assert {words: text for words, text in said.items() if words not in text} == {}


def test_wrong_hosts_and_ports_are_reported_with_the_cure(settings: Settings) -> None:
    assert "nothing listens there" in refusal(settings, f"redis://:canary@{HOST}:9/0")
    assert "host name cannot be resolved" in refusal(settings, "redis://:canary@no-such-host.invalid/0")
