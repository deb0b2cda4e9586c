"""Servers for the tests of this tier."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from dtqkit.local import LocalStores
from tests.serving import Server, fresh_namespace, publish, settings_for
from tests.web.tasks import ALL


@pytest.fixture(scope="module")
def server(stores: LocalStores) -> Iterator[Server]:
    """A server that the tests of a module share: it knows the tasks of tests.web.tasks, and no worker runs them."""
    with fresh_namespace(stores) as namespace:
        settings = settings_for(stores, namespace)
        publish(settings, [task.info for task in ALL])
        with Server(settings) as server:
            yield server
            assert server.process is not None
            assert server.process.poll() is None, server.output()


@pytest.fixture
def start_server(stores: LocalStores, namespace: str) -> Iterator[Callable[..., Server]]:
    """Start a server of the test's own: `start_server(*arguments, environ={}, **settings)`."""
    with ExitStack() as owned:

        def start(*arguments: str, environ: dict[str, str] | None = None, **changes: Any) -> Server:
            settings = settings_for(stores, namespace, **changes)
            publish(settings, [task.info for task in ALL])
            return owned.enter_context(Server(settings, *arguments, environ=environ))

        yield start
