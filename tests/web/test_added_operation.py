"""An operation that is added has its call, its route, its client, its document and its scope from its row alone."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPResponse

from dtqkit import Settings, TaskQueue
from dtqkit.control import OPERATIONS, Control, Operation
from dtqkit.control.table import Lines
from dtqkit.direct import DirectControl
from dtqkit.direct.parts import Parts, answers
from dtqkit.model.errors import JobConflict
from dtqkit.notebook.board_rpc import answer
from dtqkit.remote import RemoteControl
from dtqkit.tasks.registry import TaskRegistry
from dtqkit.web.drain import Drain
from dtqkit.web.listening import Address
from dtqkit.web.openapi import document
from dtqkit.web.server import serve
from tests import sample
from tests.routes import of_table, scopes
from tests.serving import READ_TOKEN, TOKEN

PAGE = Path(__file__).parents[2] / "docs" / "internals" / "add-an-operation.md"


class Sum(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request of which one part is in the path and the others in the body."""

    name: str
    numbers: tuple[int, ...]
    later: bool = False


class Summed(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    total: int


class Count(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    to: int = 3


class Number(msgspec.Struct, frozen=True, kw_only=True):
    n: int
    square: int


@pytest.fixture
def table() -> Iterator[None]:
    """The table of operations; what a test adds is taken out again."""
    before = set(OPERATIONS)
    yield
    for operation in set(OPERATIONS) - before:
        OPERATIONS.remove(operation)
        answers.remove(operation)


@pytest.fixture
def page(table: None) -> ModuleType:
    """The code of the page about adding an operation, as a module."""
    module = ModuleType("added")
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(compile(block, str(PAGE), "exec", dont_inherit=True), vars(module))  # noqa: S102 - it is ours
    return module


@pytest.fixture
def behind(settings: Settings) -> Settings:
    return settings.replace(token=TOKEN, read_token=READ_TOKEN, port=0, ws_port=0, drain_s=0.0)


def served(settings: Settings, story: Callable[[str], Awaitable[None]]) -> None:
    """Run `story` with the address of a server in this process."""

    async def run() -> None:
        drain, ready = Drain(0.0), asyncio.Queue[Address]()
        serving = asyncio.create_task(serve(settings, drain=drain, ready=ready.put_nowait))
        try:
            await story((await asyncio.wait_for(ready.get(), 30)).http)
        finally:
            drain.ask(at_once=True)
            await serving

    asyncio.run(run())


async def fetch(url: str, token: str = TOKEN, body: Any = None) -> HTTPResponse:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    sent = {} if body is None else {"method": "POST", "body": json.dumps(body)}
    return await AsyncHTTPClient().fetch(url, headers=headers, raise_error=False, **sent)  # pyright: ignore[reportArgumentType]


async def on_stores(settings: Settings, story: Callable[[Control], Awaitable[None]]) -> None:
    control = DirectControl(settings, TaskRegistry())
    try:
        await story(control)
    finally:
        await control.close()


async def by_remote(url: str, story: Callable[[Control], Awaitable[None]]) -> None:
    control = RemoteControl(url, TOKEN)
    try:
        await story(control)
    finally:
        await control.close()


def test_the_operation_of_the_page_is_called_routed_documented_and_guarded(page: Any, behind: Settings) -> None:
    with TaskQueue(behind) as queue:
        queue.include("tests.sample")
        queue.submit_many([sample.noop.options(priority="high").bind() for _ in range(3)])
        sample.noop.options(priority="high", delay_s=60).submit()

    async def asked(control: Control) -> None:
        # Directly, and by the remote client
        assert await control.ask(page.LANE, page.LaneRequest(lane="high")) == page.Lane(lane="high", waiting=3)
        all_of_it = await control.ask(page.LANE, page.LaneRequest(lane="high", scheduled=True))
        assert all_of_it.waiting == 4
        # In a notebook's message
        reply = await answer(control, {"id": "1", "op": "lane", "params": {"lane": "low"}})
        assert reply == {"id": "1", "result": {"lane": "low", "waiting": 0}}

    async def story(url: str) -> None:
        await on_stores(behind, asked)
        await by_remote(url, asked)
        # Over HTTP, with and without the prefix, read strictly
        for prefix in ("", "/api"):
            response = await fetch(f"{url}{prefix}/lanes/high?scheduled=true")
            assert (response.code, json.loads(response.body)) == (200, {"lane": "high", "waiting": 4})
        assert (await fetch(f"{url}/lanes/urgent")).code == 400
        assert (await fetch(f"{url}/lanes/high?colour=red")).code == 400
        assert (await fetch(f"{url}/lanes/high", token=READ_TOKEN)).code == 200
        assert (await fetch(f"{url}/lanes/high", token="wrong")).code == 401
        # In the document that is served
        described = json.loads((await fetch(f"{url}/openapi.json")).body)["paths"]["/lanes/{lane}"]["get"]
        assert described["operationId"] == "lane"
        assert [(p["name"], p["in"]) for p in described["parameters"]] == [("lane", "path"), ("scheduled", "query")]

    served(behind, story)
    # In what the test of scopes looks at
    assert scopes()["GET", "/lanes/(?P<lane>[^/]+)"] == of_table()["GET", "/lanes/(?P<lane>[^/]+)"] == "read"


def test_each_column_of_a_row_has_its_effect(table: None, behind: Settings) -> None:
    add = OPERATIONS.add(
        Operation(
            name="sum",
            method="POST",
            path="/sums/{name}",
            scope="write",
            request=Sum,
            response=Summed,
            status=201,
            created=lambda summed: str(summed.total),
            accepted_when=lambda summed: summed.total > 100,
            may_be_down=lambda summed: summed.total > 1000,
        )
    )
    count = OPERATIONS.add(
        Operation(
            name="numbers",
            path="/numbers",
            request=Count,
            response=AsyncIterator,
            streams=Lines(row=Number, each="a number", fields=lambda _: ("square", "n")),
        )
    )

    @answers.to(add)
    async def summed(_: Parts, asked: Sum) -> Summed:
        if not asked.numbers:
            raise JobConflict("nothing to sum")
        return Summed(name=asked.name, total=sum(asked.numbers))

    @answers.to(count)
    async def numbers(_: Parts, asked: Count) -> AsyncIterator[Number]:
        async def rows() -> AsyncIterator[Number]:
            for n in range(asked.to):
                yield Number(n=n, square=n * n)

        return rows()

    async def asked(control: Control) -> None:
        assert await control.ask(add, Sum(name="a b/ü", numbers=(1, 2))) == Summed(name="a b/ü", total=3)
        with pytest.raises(JobConflict, match="nothing to sum"):
            await control.ask(add, Sum(name="a", numbers=()))
        assert (await control.ask(add, Sum(name="a", numbers=(1001,)))).total == 1001  # also in an answer of 503
        assert [row.square async for row in await control.ask(count, Count(to=4))] == [0, 1, 4, 9]

    async def story(url: str) -> None:
        await on_stores(behind, asked)
        await by_remote(url, asked)
        made = await fetch(f"{url}/sums/a", body={"numbers": [1, 2]})
        assert (made.code, made.headers["Location"]) == (201, "/sums/a/3")
        assert (await fetch(f"{url}/sums/a", body={"numbers": [101]})).code == 202
        down = await fetch(f"{url}/sums/a", body={"numbers": [1001]})
        assert (down.code, "Retry-After" in down.headers, json.loads(down.body)["total"]) == (503, True, 1001)
        assert (await fetch(f"{url}/sums/a", body={"numbers": []})).code == 409
        assert (await fetch(f"{url}/sums/a", body={"numbers": [1], "name": "b"})).code == 400
        assert (await fetch(f"{url}/sums/a", body=[1])).code == 400
        assert (await fetch(f"{url}/sums/a", token=READ_TOKEN, body={"numbers": [1]})).code == 403
        lines = (await fetch(f"{url}/numbers?to=2")).body
        assert lines == b'{"square":0,"n":0}\n{"square":1,"n":1}\n'

    served(behind, story)
    described = json.loads(document())["paths"]
    body = described["/sums/{name}"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert (list(body["properties"]), body["required"]) == (["numbers", "later"], ["numbers"])
    assert {"201", "202"} < set(described["/sums/{name}"]["post"]["responses"])
    assert "application/x-ndjson" in described["/numbers"]["get"]["responses"]["200"]["content"]


def test_a_name_a_route_and_an_implementation_are_given_once(page: Any) -> None:
    with pytest.raises(ValueError, match="name or route"):
        OPERATIONS.add(Operation(name="lane", path="/other", request=Count, response=Summed))
    with pytest.raises(ValueError, match="name or route"):
        OPERATIONS.add(Operation(name="other", path="/lanes/{lane}", request=Count, response=Summed))
    with pytest.raises(ValueError, match="two implementations"):
        answers.to(page.LANE)(page.lane)


def test_every_operation_of_the_table_has_an_implementation_on_the_stores() -> None:
    assert [operation for operation in OPERATIONS if answers.get(operation) is None] == []
