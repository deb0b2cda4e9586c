"""Redis changes its primary: behind one address, by Sentinels, and in a cluster. Work resumes, and nothing is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from dtqkit import JobHandle, Settings, TaskQueue
from tests import sample
from tests.faults.proxy import Proxy
from tests.redis_servers import HOST, RedisProcess, free_port, primary_and_replica, redis_server, sentinels
from tests.wait import wait_until
from tests.workers import Workers

#: In which work must resume, in seconds: 10 are promised; this machine may be busy.
RESUMED_S = 20.0


@contextmanager
def working(settings: Settings) -> Iterator[TaskQueue]:
    with TaskQueue(settings) as queue:
        queue.include("tests.sample")
        with Workers(queue, 2):
            assert sample.add_async.submit(1).result(timeout=20) == 2
            yield queue


class Load:
    """Submits jobs from `with` to its end."""

    def __init__(self) -> None:
        self.jobs: list[JobHandle[int]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.wait(0.05):
            self.jobs.append(sample.add_async.submit(len(self.jobs)))

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def resumes_after(fail: object, load: Load) -> None:
    """What is submitted from now on is done in time, and so is everything before it."""
    assert callable(fail)
    fail()
    time_of_fault = time.monotonic()
    later = len(load.jobs) + 5
    wait_until(lambda: len(load.jobs) > later)
    load.jobs[later].result(timeout=RESUMED_S)
    for number, job in enumerate(list(load.jobs)):
        assert job.result(timeout=max(0.1, time_of_fault + 2 * RESUMED_S - time.monotonic())) == number + 1


def test_work_goes_on_when_the_primary_behind_an_address_is_demoted_and_keeps_running(
    settings: Settings, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        old, new = stack.enter_context(primary_and_replica(tmp_path))
        proxy = stack.enter_context(Proxy(old.port))
        stack.enter_context(working(settings.replace(redis_url=f"redis://{HOST}:{proxy.port}/0")))
        load = stack.enter_context(Load())

        def switch() -> None:
            proxy.to(new.port)
            new.redis.replicaof("NO", "ONE")
            old.redis.replicaof(HOST, new.port)

        resumes_after(switch, load)
        names = [client["name"] for client in old.redis.client_list()]
    assert "dtqkit" not in names  # no connection stays at the replica


def test_work_goes_on_after_sentinels_were_asked_for_another_primary_and_after_one_was_killed(
    settings: Settings, tmp_path: Path
) -> None:
    with primary_and_replica(tmp_path) as (first, second), sentinels(tmp_path, first, "jobs") as found:
        hosts = ",".join(f"{HOST}:{one.port}" for one in found)
        with working(settings.replace(redis_url=f"redis+sentinel://{hosts}/jobs/0")), Load() as load:

            def primary() -> RedisProcess:
                port = int(found[0].redis.sentinel_get_master_addr_by_name("jobs")[1])
                return first if port == first.port else second

            before = primary()
            resumes_after(lambda: found[0].redis.execute_command("SENTINEL", "FAILOVER", "jobs"), load)
            wait_until(lambda: primary() is not before, timeout_s=20)

            def replicated() -> bool:
                return primary().redis.info("replication").get("connected_slaves") == 1

            wait_until(replicated, timeout_s=30)
            resumes_after(lambda: primary().kill(), load)


def test_a_primary_that_its_sentinels_protect_with_passwords_is_found(settings: Settings, tmp_path: Path) -> None:
    with primary_and_replica(tmp_path) as (first, _), sentinels(tmp_path, first, "jobs", password="canary-s") as found:
        first.redis.config_set("requirepass", "canary-r")
        first.redis.execute_command("AUTH", "canary-r")
        first.redis.config_set("masterauth", "canary-r")
        for one in found:
            one.redis.execute_command("SENTINEL", "SET", "jobs", "auth-pass", "canary-r")
        hosts = ",".join(f"{HOST}:{one.port}" for one in found)
        url = f"redis+sentinel://:canary-r@{hosts}/jobs?sentinel_password=canary-s"
        with working(settings.replace(redis_url=url)) as queue:
            assert sample.add.submit(2).result(timeout=20) == 3
            assert "canary" not in repr(queue)
        unknown = settings.replace(redis_url=url.replace("/jobs?", "/others?"))
        with TaskQueue(unknown) as queue, pytest.raises(ConnectionError, match="no Sentinel knows a primary 'others'"):
            queue.workers()


def meet(node: RedisProcess, other: RedisProcess) -> None:
    bus = int(other.redis.config_get("cluster-port")["cluster-port"])
    node.redis.execute_command("CLUSTER", "MEET", HOST, other.port, bus)


def cluster_node(directory: Path) -> AbstractContextManager[RedisProcess]:
    return redis_server(directory, "--cluster-enabled", "yes", "--cluster-port", free_port())


@contextmanager
def cluster(directory: Path, nodes: int) -> Iterator[list[RedisProcess]]:
    """Nodes that share the slots, each without replicas."""
    with ExitStack() as stack:
        found = [stack.enter_context(cluster_node(directory)) for _ in range(nodes)]
        step = 16384 // nodes
        for number, node in enumerate(found):
            last = 16383 if number == nodes - 1 else (number + 1) * step - 1
            node.redis.execute_command("CLUSTER", "ADDSLOTS", *range(number * step, last + 1))
            node.redis.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in found[1:]:
            meet(node, found[0])

        def whole(node: RedisProcess) -> bool:
            info = node.redis.execute_command("CLUSTER", "INFO")
            text = info if isinstance(info, str) else "\n".join(f"{key}:{value}" for key, value in info.items())
            return "cluster_state:ok" in text and f"cluster_known_nodes:{nodes}" in text

        for node in found:
            wait_until(lambda node=node: whole(node), timeout_s=30)
        yield found


@pytest.mark.parametrize("nodes", [1, 3])
@pytest.mark.parametrize("named", [True, False])
def test_a_cluster_is_used_by_whichever_node_is_named(
    settings: Settings, tmp_path: Path, nodes: int, named: bool
) -> None:
    with cluster(tmp_path, nodes) as found:
        for node in found[:2]:
            own = settings.replace(redis_url=node.url, namespace=settings.namespace if named else "")
            own = own.replace(database=f"d{settings.namespace}")
            with working(own) as queue:
                jobs = sample.add_async.map(range(30))
                assert jobs.results(timeout=30) == list(range(1, 31))
                assert sample.add_async.options(delay_s=0.3).submit(1).result(timeout=20) == 2
                assert {worker.name for worker in queue.workers()} == {"w1", "w2"}
        holders = [node for node in found if node.redis.dbsize()]
        assert len(holders) == 1
        assert all(key.startswith("{") for key in holders[0].redis.keys("*"))


def test_work_goes_on_when_another_node_of_a_cluster_gets_our_keys(settings: Settings, tmp_path: Path) -> None:
    with cluster(tmp_path, 1) as (first,), cluster_node(tmp_path) as second:
        meet(second, first)
        name = str(first.redis.execute_command("CLUSTER", "MYID"))

        def replicates() -> bool:
            try:
                second.redis.execute_command("CLUSTER", "REPLICATE", name)
            except RedisError:  # it does not know it yet
                return False
            return True

        wait_until(replicates)
        wait_until(lambda: second.redis.info("replication").get("master_link_status") == "up", timeout_s=20)
        with working(settings.replace(redis_url=first.url)), Load() as load:

            def switch() -> None:
                second.redis.execute_command("CLUSTER", "FAILOVER", "FORCE")
                wait_until(lambda: second.redis.info("replication")["role"] == "master", timeout_s=20)

            resumes_after(switch, load)
