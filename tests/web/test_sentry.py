"""What is reported to Sentry: that something broke, and nothing of what was sent."""

from typing import Any

import pytest

from dtqkit.model.settings import Settings
from dtqkit.web import sentry

SECRET = "canary-5f1e9c"


def test_an_event_leaves_without_bodies_tokens_and_passwords() -> None:
    event: Any = {
        "message": f"cannot reach redis://user:{SECRET}@host/0",
        "request": {
            "url": f"http://host/jobs?q={SECRET}",
            "query_string": f"q={SECRET}",
            "data": {"payload": SECRET},
            "cookies": {"a": SECRET},
            "headers": {"Authorization": f"Bearer {SECRET}", "X-Api-Key": SECRET, "User-Agent": "curl"},
        },
        "breadcrumbs": {"values": [{"message": SECRET}]},
        "exception": {"values": [{"type": "ValueError", "value": f"mongodb://a:{SECRET}@host"}]},
    }
    scrubbed: Any = sentry.scrub(event, {})
    assert SECRET not in str(scrubbed)
    assert scrubbed["request"] == {"url": "http://host/jobs", "headers": {"User-Agent": "curl"}}
    assert scrubbed["exception"]["values"][0]["type"] == "ValueError"


def test_without_a_dsn_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    import sentry_sdk

    started: list[Any] = []
    monkeypatch.setattr(sentry_sdk, "init", lambda **options: started.append(options))
    sentry.start(Settings())
    assert started == []
    sentry.start(Settings(sentry_dsn="https://key@sentry.example/1"))
    assert [options["before_send"] for options in started] == [sentry.scrub]
    assert started[0]["include_local_variables"] is False
