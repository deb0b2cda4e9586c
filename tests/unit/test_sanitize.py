"""What is done to text from outside before it is logged, answered or printed."""

import logging
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtqkit.model.settings import Settings
from dtqkit.support.causes import users_frames
from dtqkit.support.nearest import nearest
from dtqkit.support.sanitize import SafeFormatter, SecretHider, bounded, cut, escaped, escaped_line, redact
from dtqkit.web.access import Origins
from dtqkit.web.logs import without_header

#: What the patterns begin with, end with, or look for: repeated and mixed, it is the worst for a pattern.
PARTS = (
    *("a", "://", "@", "token", "token=", 'token="', "token='", "'token':", '"token": "', '\\"token\\":\\"', "=", "&"),
    *(
        "authorization",
        "authorization:",
        "bearer ",
        "basic a",
        '"',
        "'",
        "\\",
        " ",
        "\n",
        "é",
        ".",
        "%",
        "-",
        "[0]",
        "0",
    ),
)
SMALL, LARGE = 8 * 1024, 64 * 1024

origins = Origins(Settings(cors_origins=("https://a.example",)), "127.0.0.1")
WORKS: dict[str, Callable[[str], object]] = {
    "redact": redact,
    "bounded": bounded,
    "escaped": escaped,
    "escaped_line": escaped_line,
    "users_frames": users_frames,
    "nearest": lambda text: nearest(text, [f"task_{number}" for number in range(500)]),
    "knows_host": origins.knows_host,
    "trusts": lambda text: origins.trusts(text, text),
}


def seconds(work: Callable[[str], object], text: str) -> float:
    """The least of three runs, as CPU time."""
    found: list[float] = []
    for _ in range(3):
        started = time.thread_time()
        work(text)
        found.append(time.thread_time() - started)
    return min(found)


@pytest.mark.parametrize("name", WORKS)
@given(parts=st.lists(st.sampled_from(PARTS), min_size=1, max_size=4), first=st.sampled_from(("", *PARTS)))
@settings(max_examples=60)
def test_the_work_on_outside_text_grows_no_faster_than_the_text(name: str, parts: list[str], first: str) -> None:
    unit = "".join(parts)
    small, large = (first + unit * (size // len(unit)) for size in (SMALL, LARGE))
    # Eight times the text: what is quadratic takes 64 times as long. Below 20 ms, it is the machine that is measured.
    assert seconds(WORKS[name], large) < max(24 * seconds(WORKS[name], small), 0.02)


@pytest.mark.parametrize(
    "text",
    [
        "redis://:p@canary@host:1/0",
        "redis://u:p%40canary/x@host:1/0",
        "mongodb://u:canary:@h,u2:canary@h2/?x=1 failed",
        "https://canary@o1.ingest.sentry.io/1",
        "SENTRY_DSN=canary-dsn",
        "GET /ws?token=canary HTTP/1.1",
        "GET /ws?x=1&access_token=canary&y=2",
        '{"type":"hello","token":"canary\\"canary"}',
        '"{\\"type\\":\\"hello\\",\\"token\\":\\"canary\\"}"',
        "{'password': 'canary canary'}",
        "connect(password='canary canary')",
        'Settings(token="canary")',
        "Authorization: Bearer canary0123",
        "{'Authorization': 'Basic canary0123'}",
        "Invalid header value 'Bearer canary0123\\r'",
        "token = canary",
        "DTQ_READ_TOKEN=canary",
        "mongodb://h/?authMechanismProperties=AWS_SESSION_TOKEN:canary",
    ],
)
def test_a_secret_is_redacted_in_whatever_form_it_comes(text: str) -> None:
    assert "canary" not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "the token is not known here",
        "a bearer token is needed",
        "cannot reach https://host:1/path for bob@example.org",
        "invalid token: expected a number",
        "REDIS_URL is not set",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


@given(before=st.integers(0, 300), after=st.integers(0, 300), password=st.sampled_from(["canary", "ca@nary", "x" * 40]))
def test_no_part_of_a_password_is_left_where_a_text_is_cut(before: int, after: int, password: str) -> None:
    text = f"{'a ' * before}redis://user:{password}@host/0{' b' * after}"
    for limit in range(40, 400, 7):
        shown = bounded(text, limit)
        assert not any(part in shown for part in ("cana", "nary", "xxx", "user")), (limit, shown)


def test_a_long_text_is_cut_to_about_the_limit() -> None:
    assert len(cut("word " * 100_000, 1000)) < 1100
    assert cut("short", 1000) == "short"


def test_nothing_that_a_terminal_obeys_is_left() -> None:
    evil = "\x1b]0;t\x07\x1b[2J\x9b31m\x7f\r\x08\u202e\u2066x\n\ty"
    assert escaped(evil) == r"\x1b]0;t\x07\x1b[2J\x9b31m\x7f\x0d\x08\u202e\u2066x" + "\n\ty"
    assert escaped_line("a\nb\tc") == r"a\nb\tc"
    assert escaped("héllo 日本 🎉") == "héllo 日本 🎉"


def test_a_known_secret_is_hidden_in_every_form() -> None:
    hide = SecretHider(["cäna/ry+1", ""])
    for form in ("cäna/ry+1", "c%C3%A4na%2Fry%2B1", "c\\xe4na/ry+1"):
        assert hide(f"it is {form}!") == "it is ***!"


def test_settings_name_what_no_log_may_show() -> None:
    secrets = Settings(token="t-1", redis_url="redis://:p%40w@h/0", atlas_uri="mongodb://u:x@y@h").secrets()
    assert {"t-1", "p%40w", "p@w", "x@y"} <= set(secrets)


def record(message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("tornado.general", logging.INFO, "", 0, message, arguments, None)


def test_a_log_line_is_bounded_redacted_and_harmless() -> None:
    line = SafeFormatter("%(message)s", secrets=["s3cret-token"]).format(
        record("%s", "s3cret-token redis://:canary@h \x1b[2J" + "x" * 1_000_000)
    )
    assert len(line) < 20_000
    assert not any(wrong in line for wrong in ("s3cret", "canary", "\x1b"))


@pytest.mark.parametrize(
    ("char", "name"), [("\r", "a carriage return"), ("\0", "a NUL"), ("\x0b", "a VT"), ("\x7f", "a DEL")]
)
def test_what_tornado_quotes_of_a_header_is_left_out_and_its_fault_is_named(char: str, name: str) -> None:
    found = record("Malformed HTTP message from %s: %s", "127.0.0.1", f"Invalid header value {'Bearer abc' + char!r}")
    assert without_header(found)
    assert "abc" not in found.getMessage()
    assert name in found.getMessage()
    assert "DTQ_TOKEN" in found.getMessage()
