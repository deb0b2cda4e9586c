"""A form that submits jobs: made from a task's schema, so that it fits tasks of this process and of others alike."""
# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false, reportUnknownVariableType=false
# (ipywidgets and anywidget leave most of their types open)

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ipywidgets import HTML, Button, VBox

from dtqkit.client.async_handle import AsyncJobHandle
from dtqkit.client.handles import JobHandle
from dtqkit.control import Submission
from dtqkit.control.operations import SUBMIT
from dtqkit.model.errors import DtqError, InvalidPayload, UnknownTask
from dtqkit.notebook.boards import hand_over
from dtqkit.notebook.fields import LEFT_OUT, Field
from dtqkit.notebook.html import el, plain
from dtqkit.notebook.reprs import job_card
from dtqkit.tasks.schema import PayloadValidator

if TYPE_CHECKING:
    from dtqkit.client.decorators import QueuedTask
    from dtqkit.client.queue import TaskQueue
    from dtqkit.tasks.task import TaskInfo

#: Seconds between two looks at a job whose card is shown.
LOOK_S: Final = 0.25


class Form(VBox):
    """Fields, a button, and the card of the job that it submitted last, which is `job`."""

    def __init__(self, queue: TaskQueue, task: QueuedTask[..., Any, Any] | str) -> None:
        info = _find(queue, task) if isinstance(task, str) else task.info
        if not isinstance(task, str):
            queue.registry.add(task)
        self._queue = queue
        self._task = info.name
        self._validator = PayloadValidator(info.name, info.schema)
        #: The job that was submitted last.
        self.job: JobHandle[Any] | None = None
        required = frozenset(info.schema.get("required", ()))
        properties: Mapping[str, Any] = info.schema.get("properties", {})
        self.fields = {
            name: Field(name, _resolved(schema, info.schema), name in required) for name, schema in properties.items()
        }
        self.button = Button(description=f"Submit {info.name}", button_style="primary")
        self.button.on_click(lambda _: self.submit())
        self.complaint = HTML()
        self.card = HTML()
        help_text = HTML(plain(el("div", info.description, style="white-space:pre-line;line-height:1.4;opacity:.8")))
        boxes = [field.box for field in self.fields.values()]
        super().__init__([help_text, *boxes, self.button, self.complaint, self.card])

    def submit(self) -> None:
        """What the button does: check the fields, and submit a job if they fit."""
        self._complain({})
        payload: dict[str, Any] = {}
        wrong: dict[str, str] = {}
        for name, field in self.fields.items():
            try:
                value = field.read()
            except ValueError as error:
                wrong[name] = str(error)
            else:
                if value is not LEFT_OUT:
                    payload[name] = value
        if not wrong:
            try:
                self._validator.check(payload)
            except InvalidPayload as error:
                wrong = _placed(error)
        if wrong:
            self._complain(wrong)
        else:
            self.button.disabled = True
            hand_over(self._queue.start, self._submit(payload))

    async def _submit(self, payload: dict[str, Any]) -> None:
        """On the queue's loop: submit, then keep the card up to date until the job is over."""
        core = self._queue.core
        try:
            handle: AsyncJobHandle[Any] = AsyncJobHandle(
                core, await core.control.ask(SUBMIT, Submission(task=self._task, payload=payload))
            )
        except InvalidPayload as error:
            self._complain(_placed(error))
            return
        except DtqError as error:
            self._complain({"": str(error)})
            return
        finally:
            self.button.disabled = False
        self.job = JobHandle(self._queue, handle)
        over = asyncio.ensure_future(handle.over())
        shown = None
        while self.job.asynchronous is handle:
            if handle.record is not shown:
                shown = handle.known
                self.card.value = job_card(shown) or ""
            if over.done():
                break
            await asyncio.wait({over}, timeout=LOOK_S)
        over.cancel()

    def _complain(self, wrong: Mapping[str, str]) -> None:
        for name, field in self.fields.items():
            field.complain(wrong.get(name, ""))
        rest = [text for name, text in wrong.items() if name not in self.fields]
        self.complaint.value = plain(el("span", "; ".join(rest), style="color:#d4351c", role="alert")) if rest else ""

    def __repr__(self) -> str:
        return f"<Form {self._task}>"


def _find(queue: TaskQueue, name: str) -> TaskInfo:
    """The task of this name: the queue's own, or one that workers have published."""
    own = queue.registry.find(name)
    if own is not None:
        return own.info
    published = {info.name: info for info in queue.tasks()}
    if name not in published:
        raise UnknownTask(name, sorted(published)[:3])
    return published[name]


def _resolved(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    """`schema`, or what it refers to, with its own default."""
    ref = schema.get("$ref")
    if ref is None and len(schema.get("allOf", ())) == 1:
        ref = schema["allOf"][0].get("$ref")
    if ref is None:
        return schema
    found: Mapping[str, Any] = document.get("$defs", {}).get(str(ref).removeprefix("#/$defs/"), {})
    return {**found, **{key: value for key, value in schema.items() if key == "default"}}


def _placed(error: InvalidPayload) -> dict[str, str]:
    """What is wrong, by the argument that it is wrong with; the rest of the path stays in the text."""
    name = error.path.removeprefix("$.").partition(".")[0].partition("[")[0]
    inside = error.path.removeprefix(f"$.{name}")
    return {name: f"{error.detail} (at {inside})" if inside and inside != error.path else error.detail}
