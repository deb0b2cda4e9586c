"""Tasks that give back what they get, in a module that children can import."""

from __future__ import annotations

import datetime as dt
import pathlib
from typing import Any

import numpy as np
import pandas as pd
import pydantic

from dtqkit import task


class Order(pydantic.BaseModel):
    id: int
    due: dt.date | None = None
    ratio: float = 1.0


@task
def echo(value: Any) -> Any:
    return value


@task(max_attempts=2, backoff_s=0.01)
def echo_in_vain(value: Any) -> None:
    raise ValueError(repr(value))


@task
async def echo_async(value: Any) -> Any:
    return value


@task
def typed(order: Order, where: pathlib.Path, sizes: dict[int, float], at: pd.Timestamp) -> dict[pathlib.Path, Order]:
    assert isinstance(at, pd.Timestamp)
    return {where: Order(id=order.id + len(sizes), due=at.date(), ratio=sizes[1])}


@task
def computed() -> dict[str, Any]:
    """What a data frame gives."""
    frame = pd.DataFrame({"a.b": [1.0, 2.0, float("nan")], "$n": [np.int64(1)] * 3})
    return {"described": frame.describe().to_dict(), "records": frame.to_dict("records"), "n": np.float64(1.5)}


@task(max_attempts=3, backoff_s=0.01)
def unrecordable(path: str) -> pd.DataFrame | None:
    """Leaves a line of its work in a file, and returns what has no JSON form."""
    with pathlib.Path(path).open("a") as file:
        file.write("done\n")
    return pd.DataFrame({"a": [1]})
