"""How the drivers' errors are reported."""

from __future__ import annotations

from typing import Any, cast

import pytest
from pymongo.errors import NetworkTimeout

from dtqkit import StoreUnavailable
from dtqkit.broker import client as broker
from dtqkit.model.errors import OutcomeUnknown
from dtqkit.store import client as store


def test_a_connection_closed_while_it_is_opened_counts_as_an_unreachable_redis() -> None:
    """The driver then looks for the writer of a connection that has none any more."""
    driver = {"__name__": "redis.asyncio.connection", "writer": None}
    message = r"^Redis at redis://\*\*\*@h: the connection was closed while"
    with pytest.raises(StoreUnavailable, match=message), broker.redis_errors("redis://:secret@h"):
        exec("writer.writelines([])", driver)  # noqa: S102 - a line that passes for the driver's
    # Python 3.12 and 3.13 do not look before they write to a connection that is lost.
    transport = {"__name__": "asyncio.selector_events", "_write_ready": None}
    with pytest.raises(StoreUnavailable, match=message), broker.redis_errors("redis://:secret@h"):
        exec("_write_ready()", transport)  # noqa: S102


def test_a_bug_of_ours_is_not_reported_as_an_unreachable_redis() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"), broker.redis_errors("redis://h"):
        cast(Any, object()).nothing()
    with pytest.raises(AttributeError, match="no attribute 'run'"), broker.redis_errors("redis://h"):
        cast(Any, None).run()
    with pytest.raises(TypeError, match="not callable"), broker.redis_errors("redis://h"):
        cast(Any, None)()


def test_a_write_without_an_answer_is_reported_as_possibly_done() -> None:
    late = NetworkTimeout("h:27017: timed out (configured timeouts: timeoutMS: 1451.0ms)")
    message = r"^MongoDB at mongodb://\*\*\*@h: no answer in time \(the write may be done or not\)$"
    with (
        pytest.raises(OutcomeUnknown, match=message),
        store.store_errors(store.MongoLink("mongodb://u:p@h"), writes=True),
    ):
        raise late
    message = r"^MongoDB at mongodb://h: no answer in time$"
    with pytest.raises(StoreUnavailable, match=message) as read, store.store_errors(store.MongoLink("mongodb://h")):
        raise late
    assert not isinstance(read.value, OutcomeUnknown)
