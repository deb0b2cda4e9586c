"""What REDIS_URL may name, and the errors for one that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from dtqkit import Settings, SettingsError
from dtqkit.broker.address import parse
from dtqkit.broker.route import Route


def test_a_plain_url_names_one_server() -> None:
    address = parse("rediss://user:p%40ss@h:6380/2?ssl_cert_reqs=none")
    assert (address.hosts, address.tls, address.sentinel) == ((("h", 6380),), True, None)
    assert address.options == {"username": "user", "password": "p@ss", "db": 2, "ssl_cert_reqs": "none"}
    assert parse("redis://h").hosts == (("h", 6379),)
    assert parse("unix:///run/redis.sock").path == "/run/redis.sock"


def test_sentinels_are_named_with_their_primary_and_both_passwords() -> None:
    address = parse("redis+sentinel://u:p%2Fw@a:1,b,[::1]:3/jobs/4?sentinel_username=s&sentinel_password=t%26")
    assert address.hosts == (("a", 1), ("b", 26379), ("::1", 3))
    assert (address.sentinel, address.tls) == ("jobs", False)
    assert address.options == {"username": "u", "password": "p/w", "db": 4}
    assert address.sentinel_options == {"username": "s", "password": "t&"}
    assert parse("rediss+sentinel://a/jobs").tls


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://:canary@h1,h2/0", "names several hosts"),
        ("redis+sentinel://:canary@h1", "names no primary"),
        ("redis+sentinel://:canary@h1/", "names no primary"),
        ("redis+sentinel://:canary@:1/jobs", "without a host"),
        ("redis://:canary@h/0?no_such=1", "a parameter that is not known: 'no_such'"),
        ("redis://:canary@h:port/0", "cannot be used"),
        ("rediss://:canary@h/0?ssl_ca_certs=/no/such.pem", "names ssl_ca_certs=/no/such.pem, which cannot be read: No"),
        ("rediss://:canary@h/0?ssl_cert_reqs=canary", "cannot be used"),
    ],
)
def test_an_error_about_a_url_does_not_show_its_password(url: str, said: str) -> None:
    with pytest.raises(SettingsError, match="REDIS_URL") as error:
        parse(url)
    assert said in str(error.value)
    assert ":canary@" not in str(error.value)


def test_a_file_that_is_no_certificate_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("nothing")
    with pytest.raises(SettingsError, match="the certificate files that REDIS_URL names cannot be used"):
        parse(f"rediss://h/0?ssl_ca_certs={file}")


def test_settings_take_sentinels_and_never_show_their_passwords() -> None:
    url = "redis+sentinel://:canary@h/jobs?sentinel_password=canary"
    assert "canary" not in repr(Settings.from_env({"REDIS_URL": url}))
    with pytest.raises(SettingsError, match=r"redis\+sentinel://"):
        Settings.from_env({"REDIS_URL": "sentinel://h/jobs"})


@pytest.mark.parametrize(
    ("hello", "said"),
    [
        (["mode", "sentinel"], "it is a Sentinel: write redis\\+sentinel"),
        (["mode", "standalone", "role", "replica"], "read-only replica"),
        (["mode", "standalone", "role", "slave"], "read-only replica"),
        (["mode", "cluster", "role", "master"], "it is a cluster"),
    ],
)
def test_a_server_that_is_not_redis_is_recognised_by_its_greeting(hello: list[str], said: str) -> None:
    with pytest.raises(Exception, match=said):
        Route(parse("redis://h"), "{dtqkit}:leader").check(hello)


def test_a_server_that_knows_no_greeting_is_taken_as_it_is() -> None:
    route = Route(parse("redis://h"), "{dtqkit}:leader")
    route.check([])
    assert (route.cluster, route.made) == (False, 1)
