"""The notebook's parts that need no browser and no store: cards, words, fields, a board's answers and events."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, cast

import pytest

from dtqkit import Job, JobError, TaskQueue, task
from dtqkit.control import JobQuery, JobRequest, Nothing, Page
from dtqkit.model.errors import InvalidPayload, MissingExtra
from dtqkit.model.events import Batch, Depths, Heartbeat, JobEvent, Line, Snapshot
from dtqkit.notebook import reprs
from dtqkit.notebook.board_rpc import answer
from dtqkit.notebook.feed import TICK_S, Feed
from dtqkit.notebook.fields import LEFT_OUT, Field
from dtqkit.notebook.html import el
from dtqkit.support.formatting import duration
from tests.stub import StubControl
from tests.virtual import VirtualLoop

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def job(**changes: Any) -> Job:
    return Job(**{"id": "0" * 24, "task": "render", "payload": {"page": 3}, "created_at": NOW, **changes})


# -- cards


def test_a_card_says_the_same_of_the_same_job() -> None:
    assert reprs.job_card(job()) == reprs.job_card(job())


def test_what_comes_from_a_job_is_text_and_never_markup() -> None:
    evil = "<script>alert(1)</script>"
    shown = reprs.job_card(
        job(task=evil, payload={"x": evil}, error=JobError("exception", evil, evil, evil), tags=(evil,))
    )
    assert shown is not None
    assert "<script>" not in shown
    assert shown.count("&lt;script&gt;") >= 4


@pytest.mark.parametrize("value", ["\ud800", "x" * 10**6, [[[[]]]], {"a": None}, float("inf"), object()])
def test_a_card_can_show_any_result(value: object) -> None:
    shown = reprs.job_card(job(status="completed", started_at=NOW, ended_at=NOW, result=value))
    assert shown is not None
    assert len(shown.encode("utf-8")) < 10_000


def test_a_repr_that_breaks_leaves_the_cell_with_text(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

    assert reprs.job_card(cast(Job, Broken())) is None
    assert "cannot be shown" in caplog.text


def test_the_bar_has_a_piece_for_each_status_that_occurs() -> None:
    shown = reprs.jobs_bar(["completed", "completed", "completed", "failed"])
    assert shown is not None
    assert "4 jobs" in shown
    assert 'class="completed" style="flex:3"' in shown
    assert 'class="failed" style="flex:1"' in shown
    assert "pending" not in shown.rpartition("</style>")[2]


def test_a_queue_without_workers_says_so() -> None:
    shown = reprs.queue_card(Depths(high=2), ())
    assert shown is not None
    assert "2 waiting" in shown
    assert "No workers are running" in shown


def test_a_queue_that_is_closed_or_cannot_be_reached_shows_text() -> None:
    queue = TaskQueue()
    queue.close()
    assert queue._repr_html_() is None  # pyright: ignore[reportPrivateUsage]
    assert repr(queue).startswith("<TaskQueue")


def test_an_element_escapes_its_attributes_too() -> None:
    assert el("b", "a & b", title='"') == '<b title="&quot;">a &amp; b</b>'


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "–"),
        (0.0031, "3.1 ms"),
        (0.9999, "1 s"),
        (1.44, "1.44 s"),
        (59.97, "1 min 0 s"),
        (125, "2 min 5 s"),
        (3_599.9, "1 h 0 min"),
        (11_400, "3 h 10 min"),
    ],
)
def test_a_duration_is_written_for_people(seconds: float | None, words: str) -> None:
    assert duration(seconds, unknown="–") == words


# -- what is imported when


def test_importing_dtqkit_imports_no_face_and_no_widgets() -> None:
    program = (
        "import sys, dtqkit; faces = {'web', 'notebook', 'capacity', 'ops', 'cli', 'dashboard'};"
        "loaded = {m.split('.')[1] for m in sys.modules if m.startswith('dtqkit.')} & faces;"
        "others = {'pandas', 'numpy', 'matplotlib', 'ipywidgets', 'IPython', 'anywidget'} & set(sys.modules);"
        "print(loaded | others or 'none')"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ran.stdout.strip() == "none", ran.stderr


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anywidget", None)
    monkeypatch.delitem(sys.modules, "dtqkit.notebook.boards", raising=False)
    with pytest.raises(MissingExtra, match=r"anywidget.*dtqkit\[notebook\]"):
        TaskQueue().board()


def test_a_history_without_pandas_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra, match=r"pandas.*dtqkit\[notebook\]"):
        TaskQueue().history()


def test_the_capacity_model_without_scipy_names_the_extra() -> None:
    program = "import sys; sys.modules['scipy'] = None; import dtqkit.capacity"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    last = "dtqkit.model.errors.MissingExtra: dtqkit.capacity needs scipy, which is not installed: "
    assert ran.stderr.splitlines()[-1] == last + "pip install 'dtqkit[capacity]'"


# -- fields


@task
def everything(
    page: int, ratio: float = 1.5, draft: bool = False, style: Literal["a", "b"] = "b", words: list[str] | None = None
) -> None: ...


def fields_of() -> dict[str, Field]:
    schema: Any = everything.info.schema
    return {n: Field(n, s, n in schema["required"]) for n, s in schema["properties"].items()}


def test_an_untouched_field_is_left_out_so_that_the_functions_default_counts() -> None:
    fields = fields_of()
    assert {n for n, f in fields.items() if f.read() is LEFT_OUT} == {"ratio", "draft", "style", "words"}


def test_each_kind_of_field_is_read_as_its_json_value() -> None:
    fields = fields_of()
    for name, value in {"page": 7, "ratio": 2.5, "draft": True, "style": "a", "words": '["x", "y"]'}.items():
        cast(Any, fields[name].input).value = value
    assert {n: f.read() for n, f in fields.items()} == {
        "page": 7,
        "ratio": 2.5,
        "draft": True,
        "style": "a",
        "words": ["x", "y"],
    }


def test_invalid_json_is_reported_at_the_field() -> None:
    field = fields_of()["words"]
    cast(Any, field.input).value = "[x"
    with pytest.raises(ValueError, match="not JSON"):
        field.read()


# -- a board's requests and events


class Stub(StubControl):
    """As much of a queue as a board needs; `send` sends it events."""

    def __init__(self) -> None:
        self.send: Callable[[Batch | Line], None] = lambda _: None

    async def jobs(self, query: JobQuery) -> Page[Job]:
        return Page(items=(job(),) * query.limit)

    async def get(self, _: JobRequest) -> Job:
        raise InvalidPayload("render", "$.page", "expected `int`")

    async def depths(self, _: Nothing) -> Depths:
        return Depths(high=1)

    async def workers(self, _: Nothing) -> Sequence[Heartbeat]:
        return ()

    async def snapshot(self, _: Nothing) -> Snapshot:
        return Snapshot(depths=Depths(), workers=(), jobs=(job(),))

    def subscribe(self, callback: Callable[[Batch | Line], None]) -> Callable[[], None]:
        self.send = callback
        return lambda: None


def ask(**message: Any) -> dict[str, Any]:
    return asyncio.run(answer(Stub(), {"id": "1", **message}))


def test_an_operation_is_answered_with_builtins() -> None:
    reply = ask(op="jobs", params={"limit": "2", "status": "failed"})
    assert [item["task"] for item in reply["result"]["items"]] == ["render", "render"]


def test_a_refusal_says_which_field_is_wrong() -> None:
    reply = ask(op="get", params={"id": "0" * 24})
    assert reply["error"]["code"] == "invalid_payload"
    assert reply["error"]["errors"] == [{"path": "$.page", "detail": "expected `int`"}]


@pytest.mark.parametrize("message", [{"op": "close"}, {"op": "__init__"}, {"op": "jobs", "params": {"limit": 0}}, {}])
def test_what_is_no_operation_is_refused(message: dict[str, Any]) -> None:
    assert ask(**message)["error"]["code"] == "invalid_query"


def test_changes_of_a_thousand_jobs_are_sent_in_a_few_messages() -> None:
    stub, sent = Stub(), list[dict[str, Any]]()

    async def story() -> None:
        running = asyncio.create_task(Feed(stub, sent.append, lambda _: None).run())
        while not sent:  # noqa: ASYNC110 - `sent` is a plain list
            await asyncio.sleep(0)
        # When each of a thousand jobs changes three times within a second
        for rev in (2, 3, 4):
            for n in range(1000):
                event = JobEvent(id=f"{n:024x}", rev=rev, status="running", task="render", priority="low")
                stub.send(Batch(jobs=[event]))
            await asyncio.sleep(TICK_S)  # virtual
        await asyncio.sleep(2 * TICK_S)  # at most one more message is due
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    loop = VirtualLoop()
    loop.run_until_complete(story())
    loop.close()
    sent_jobs = [m["events"]["jobs"] for m in sent if "jobs" in m.get("events", {})]
    # Then a message holds many jobs, each of them once, and the latest state of all is there
    assert len(sent_jobs) <= 4
    assert all(len({event["id"] for event in events}) == len(events) for events in sent_jobs)
    latest = {event["id"]: event["rev"] for events in sent_jobs for event in events}
    assert len(latest) == 1000
    assert set(latest.values()) == {4}
