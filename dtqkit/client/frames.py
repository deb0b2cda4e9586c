"""A history as a pandas DataFrame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dtqkit.control import AttemptRow, HistoryFilters, HistoryQuery, columns_of, query_of
from dtqkit.model.errors import MissingExtra
from dtqkit.model.values import from_json

if TYPE_CHECKING:
    from pandas import DataFrame


def frame_of(filters: HistoryFilters, rows: Callable[[], Sequence[AttemptRow]]) -> DataFrame:
    """A history with the columns of its filters. Raises MissingExtra, or InvalidQuery, before it is read."""
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        raise MissingExtra("queue.history()", error.name, "notebook") from None

    columns = columns_of(query_of(HistoryQuery, filters))
    found = rows()
    frame = pd.DataFrame({name: [getattr(row, name) for row in found] for name in dict.fromkeys(columns)})
    for name in frame.columns:
        if name.endswith("_at"):
            frame[name] = pd.to_datetime(frame[name], utc=True)
        elif name.endswith("_s"):
            frame[name] = frame[name].astype(float)
        elif name in ("payload", "result"):
            frame[name] = [from_json(value) for value in frame[name]]
    return frame
