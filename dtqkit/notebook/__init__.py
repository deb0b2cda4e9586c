"""The queue in a notebook: cards, a live board, forms, progress, plots and `%dtq`.

`TaskQueue.board()`, `.form()`, `.progress()` and `.plot` lead here. Cards need nothing but the standard library;
everything else needs the extra `dtqkit[notebook]`, and says so when it is missing.

How it stays live while a cell runs: a widget's callback only hands work over to the queue's private loop, and that
loop, on a thread of its own, sets the widget's traits and sends its messages. The kernel's own loop is never needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from dtqkit.model.errors import MissingExtra

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from dtqkit.client.decorators import QueuedTask
    from dtqkit.client.handles import JobHandle
    from dtqkit.client.queue import TaskQueue
    from dtqkit.notebook.bars import ProgressBar
    from dtqkit.notebook.boards import Board
    from dtqkit.notebook.charts import Plots
    from dtqkit.notebook.forms import Form

__all__ = ["board", "form", "load_ipython_extension", "plots", "progress"]


def board(queue: TaskQueue) -> Board:
    """The dashboard's board, live, in the cell. Raises MissingExtra."""
    try:
        from dtqkit.notebook.boards import Board
    except ModuleNotFoundError as error:
        raise MissingExtra("queue.board()", error.name, "notebook") from None
    return Board(queue)


def form(queue: TaskQueue, task: QueuedTask[..., Any, Any] | str) -> Form:
    """A form that submits jobs of `task`: one of the queue's, or the name of one that workers have published.

    Raises MissingExtra, or UnknownTask.
    """
    try:
        from dtqkit.notebook.forms import Form
    except ModuleNotFoundError as error:
        raise MissingExtra("queue.form()", error.name, "notebook") from None
    return Form(queue, task)


def progress(queue: TaskQueue, jobs: Iterable[JobHandle[Any]] | JobHandle[Any]) -> ProgressBar:
    """A bar that fills as the jobs end, also while a cell waits for them. Raises MissingExtra."""
    try:
        from dtqkit.notebook.bars import ProgressBar
    except ModuleNotFoundError as error:
        raise MissingExtra("queue.progress()", error.name, "notebook") from None
    return ProgressBar(queue, jobs)


def plots(queue: TaskQueue) -> Plots:
    """Plots of the queue's history. Raises MissingExtra."""
    try:
        from dtqkit.notebook.charts import Plots
    except ModuleNotFoundError as error:
        raise MissingExtra("queue.plot", error.name, "notebook") from None
    return Plots(queue)


def load_ipython_extension(ipython: InteractiveShell) -> None:
    """`%load_ext dtqkit.notebook` gives `%dtq` and `%%dtq`."""
    from dtqkit.notebook.magics import DtqMagics

    ipython.register_magics(DtqMagics)
