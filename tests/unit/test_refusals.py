"""What Redis's own words mean, wherever they come from: a command, a pipeline, a script of each version."""

from __future__ import annotations

import re
import socket
import ssl
from pathlib import Path

import pytest
from redis._parsers.base import BaseParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from dtqkit.broker import link
from dtqkit.broker.client import redis_errors
from dtqkit.broker.refusals import REASONS, WORDS, Kind, UnusableServer, refusal_of, words_of
from dtqkit.broker.rights import COMMANDS
from dtqkit.model.errors import NamespaceTaken, StoreUnavailable

#: What servers say: its kind, whether connections are opened again, and what is said for it.
SAID: list[tuple[str, Kind, bool, str]] = [
    ("READONLY You can't write against a read only replica.", "moved", True, "read-only replica"),
    ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", "moved", True, "replica"),
    ("UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)", "moved", True, ""),
    ("MOVED 3999 10.0.0.7:6381", "moved", True, "another node"),
    ("ASK 3999 10.0.0.7:6381", "moved", True, "moving these keys"),
    ("LOADING Redis is loading the dataset in memory", "loading", True, "loading its data"),
    ("OOM command not allowed when used memory > 'maxmemory'.", "full", False, "raise maxmemory"),
    ("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist", "full", False, "disk"),
    ("NOREPLICAS Not enough good replicas to write.", "full", False, "replicas"),
    ("BUSY Redis is busy running a script.", "busy", False, "a script"),
    ("TRYAGAIN Multiple keys request during rehashing of slot", "busy", False, "moving"),
    ("CLUSTERDOWN The cluster is down", "busy", True, "cluster is down"),
    ("EXECABORT Transaction discarded because of previous errors.", "busy", False, "transaction"),
    ("NOAUTH Authentication required.", "denied", True, ":PASSWORD@ before its host"),
    ("WRONGPASS invalid username-password pair or user is disabled.", "denied", False, "refuses the user or password"),
    ("ERR invalid password", "denied", False, "refuses the user or password"),
    ("NOPERM User app has no permissions to run the 'lpop' command", "denied", False, "'lpop'"),
    ("DENIED Redis is running in protected mode because protected mode is enabled", "denied", False, "protected mode"),
    ("ERR max number of clients reached", "busy", False, "raise maxclients"),
    ("CROSSSLOT Keys in request don't hash to the same slot", "unusable", False, "cluster"),
    ("ERR unknown command 'BLPOP', with args beginning with: 'a'", "unusable", False, "does not know a command"),
    ("ERR DB index is out of range", "unusable", False, "database"),
    ("WRONGTYPE Operation against a key holding the wrong kind of value", "content", False, "wrong type"),
    ("NOSCRIPT No matching script. Please use EVAL.", "fault", False, "script"),
    ("FOREIGN 0123456789abcdef", "taken", False, "DTQ_NAMESPACE"),
    ("ERR value is not an integer or out of range", "fault", False, "not an integer"),
]
#: As scripts of Redis 6.2, of Redis 7 and of Valkey pass on what a command in them was answered.
SCRIPTS = (
    "ERR Error running script (call to f_a8e0): @user_script:1: @user_script: 1: -{}",
    "{} script: a8e045687019c1230c01d4717e0579b12b1a1b50, on @user_script:1.",
    "{} script: on @user_script:1.",
)


@pytest.mark.parametrize(("words", "kind", "drops", "said"), SAID)
def test_each_refusal_means_the_same_wherever_it_comes_from(words: str, kind: Kind, drops: bool, said: str) -> None:
    error = BaseParser.parse_error(words)
    refusal = refusal_of(error)
    assert (refusal.kind, refusal.drops) == (kind, drops)
    assert said in refusal.detail

    piped = BaseParser.parse_error(words)
    piped.args = (f"Command # 2 (RPUSH queue:high canary) of pipeline caused error: {piped.args[0]}",)
    assert refusal_of(piped) == refusal

    # A cluster looks at a script's keys before it runs it.
    if not words.startswith(("ERR", "NOSCRIPT", "FOREIGN", "MOVED", "ASK")):
        for form in SCRIPTS:
            passed_on = refusal_of(BaseParser.parse_error(form.format(words)))
            assert (passed_on.kind, passed_on.drops) == (kind, drops)


@pytest.mark.parametrize(
    "words",
    [
        "ERR The user executing the script can't run this command or subcommand script: e7b7, on @user_script:1.",
        "ERR ACL failure in script: User app has no permissions to run the 'lpop' command script: on @user_script:1.",
        "ERR The user executing the script can't access at least one of the keys mentioned in the command arguments",
        "ERR The user executing the script can't publish to the channel mentioned in the command script: b, on @x:1.",
        "ERR Error running script (call to f_e7): @user_script: The user executing the script can't run this command",
    ],
)
def test_a_right_that_a_script_lacks_is_one_that_the_user_lacks(words: str) -> None:
    refusal = refusal_of(BaseParser.parse_error(words))
    assert refusal.kind == "denied"
    assert "e7b7" not in refusal.detail


def test_every_word_and_kind_is_in_the_tables() -> None:
    assert {words.split(" ", 1)[0] for words, *_ in SAID} >= set(WORDS)
    assert {kind for kind, _ in WORDS.values()} | {"away"} == set(REASONS)


@pytest.mark.parametrize(
    "words",
    [
        "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user>",
        "DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the "
        "default user. In this mode connections are only accepted from the loopback interface. " * 3,
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. " * 3,
        "ERR max number of clients reached" + " and so on" * 30,
    ],
)
def test_the_servers_own_words_never_drown_the_cure(words: str) -> None:
    detail = refusal_of(BaseParser.parse_error(words)).detail
    ours, _, theirs = detail.partition(" (")
    assert ": " in ours
    assert len(theirs) <= 101


def test_a_namespace_that_is_taken_comes_with_the_command_that_frees_it() -> None:
    for key, quoted in (("shop:queue:record", "shop:queue:record"), ("{shop}:queue:record", "'{shop}:queue:record'")):
        detail = refusal_of(BaseParser.parse_error(f"FOREIGN 0123456789abcdef {key}")).detail
        assert "only if that database is gone for good" in detail
        assert detail.endswith(f": redis-cli -u REDIS_URL DEL {quoted}")


def test_what_was_sent_in_a_pipeline_is_not_in_the_words() -> None:
    error = BaseParser.parse_error("OOM command not allowed")
    error.args = ("Command # 1 (PUBLISH events canary) of pipeline caused error: command not allowed",)
    assert words_of(error) == "OOM command not allowed"


def test_what_passes_and_what_does_not() -> None:
    passing = {kind for kind, reason in REASONS.items() if StoreUnavailable("Redis", "", "", reason=reason).passes}
    assert set(REASONS) - passing == {"denied", "unusable", "taken"}
    with pytest.raises(NamespaceTaken, match="DTQ_NAMESPACE"), redis_errors("redis://h"):
        raise BaseParser.parse_error("FOREIGN abc")


def caused_by(cause: Exception, *, text: str = "Error connecting") -> Exception:
    error = RedisConnectionError(text)
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (caused_by(socket.gaierror(-2, "Name or service not known")), "host name cannot be resolved"),
        (caused_by(ConnectionRefusedError(111, "refused")), "nothing listens there"),
        (RedisTimeoutError("Timeout reading from h:6379"), "no answer in time"),
        (caused_by(UnusableServer("away", "no connection in time")), "no connection in time"),
        (caused_by(ConnectionResetError(104, "reset")), "closed the connection"),
        (caused_by(ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number")), "does not speak TLS"),
        (caused_by(ssl.SSLError(1, "[SSL] record layer failure (_ssl.c:1016)")), "does not speak TLS"),
        (caused_by(ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] alert")), "asks for a client certificate"),
        (caused_by(ssl.SSLError(1, "[SSL: TLSV1_ALERT_UNKNOWN_CA] alert")), "does not trust the client certificate"),
        (UnusableServer("away", "it is odd"), "it is odd"),
    ],
)
def test_why_a_connection_cannot_be_made_is_one_sentence(error: Exception, said: str) -> None:
    refusal = refusal_of(error)
    assert refusal.kind == "away"
    assert said in refusal.detail
    assert "\n" not in refusal.detail


def test_every_command_of_our_scripts_is_asked_for_by_name() -> None:
    """INFO alone is not needed: without it, a leader audits after each connection that it makes."""
    scripts = Path(link.__file__).parent.glob("lua/*.lua")
    found = [re.findall(r"(?:call\(|, )'([A-Z]+)'", text.read_text()) for text in scripts]
    sent = {name.lower() for names in found for name in names} - {"px", "withscores", "limit"}
    assert sent - {"info"} <= set(COMMANDS)
