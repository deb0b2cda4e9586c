"""The dashboard's board as a widget: the same modules and style sheets, fed by messages instead of a WebSocket."""
# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false, reportUnknownVariableType=false
# (ipywidgets and anywidget leave most of their types open)

from __future__ import annotations

from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from anywidget import AnyWidget
from traitlets import Dict, Unicode

from dtqkit.notebook.board_rpc import answer
from dtqkit.notebook.feed import feed
from dtqkit.support.linker import link, style_sheet

if TYPE_CHECKING:
    from dtqkit.client.driver import Driver


_DASHBOARD: Final = files("dtqkit").joinpath("dashboard")


class Board(AnyWidget):
    """Live until it is closed, or its queue is; a saved notebook shows the last snapshot and says so."""

    _esm: Final = link(_DASHBOARD.joinpath("board"))
    #: The board lives in a shadow root, so its style sheet must not become the notebook's (`_css`).
    css = Unicode(style_sheet(_DASHBOARD)).tag(sync=True)
    #: {at, depths, workers, jobs}, for a notebook that is saved.
    snapshot = Dict().tag(sync=True)

    def __init__(self, queue: Driver) -> None:
        super().__init__()
        self._queue = queue
        self._feed: Future[None] = queue.start(feed(queue.core.control, self.send, self._keep))
        self.on_msg(self._asked)

    def _keep(self, snapshot: dict[str, Any]) -> None:
        self.snapshot = snapshot

    def _asked(self, _widget: AnyWidget, message: Any, _buffers: list[memoryview]) -> None:
        """A callback may run on any thread, where another loop runs: it only hands the work over."""
        if isinstance(message, dict) and "op" in message:
            hand_over(self._queue.start, self._reply(message))

    async def _reply(self, message: dict[str, Any]) -> None:
        self.send(await answer(self._queue.core.control, message))

    @property
    def closed(self) -> bool:
        """Whether it was taken away."""
        return self.comm is None

    def close(self) -> None:
        """Take the board away."""
        self._feed.cancel()
        super().close()

    def __repr__(self) -> str:
        return "<Board>"


def hand_over(start: Callable[[Coroutine[Any, Any, None]], Future[None]], work: Coroutine[Any, Any, None]) -> None:
    """Start `work` on the queue's loop; if the queue is closed, nothing happens, and its widgets no longer change."""
    try:
        start(work)
    except RuntimeError:
        pass
