"""For operators: health for load balancers and orchestrators, metrics for Prometheus."""

from __future__ import annotations

from typing import ClassVar

import msgspec
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from dtqkit.control.operations import HEALTH
from dtqkit.web.access import Scope
from dtqkit.web.base import Base
from dtqkit.web.intake import read_query


class HealthHandler(Base):
    """200 while jobs are accepted; 503 when they would be refused. Monitors add a query of their own: it is ignored."""

    scopes: ClassVar[dict[str, Scope]] = {"GET": "open"}
    any_host: ClassVar[bool] = True

    def get(self) -> None:
        health = self.services.monitor.health
        if HEALTH.may_be_down is not None and HEALTH.may_be_down(health):
            self.set_down()
        self.answer(msgspec.json.encode(health))


class LiveHandler(Base):
    """200 while the process serves."""

    scopes: ClassVar[dict[str, Scope]] = {"GET": "open"}
    any_host: ClassVar[bool] = True

    def get(self) -> None:
        self.answer(b'{"status":"live"}')


class MetricsHandler(Base):
    """Counts, and the queue as it is now."""

    scopes: ClassVar[dict[str, Scope]] = {"GET": "read"}

    async def get(self) -> None:
        read_query((), self.request.query)
        text = await self.services.metrics.text(self.services.monitor.health, len(self.services.hub))
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.answer(text)


routes = [("/health", HealthHandler), ("/health/live", LiveHandler), ("/metrics", MetricsHandler)]
