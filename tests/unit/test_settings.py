"""Settings come from the environment, are checked, and never show a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from dtqkit import Settings, SettingsError
from dtqkit.model.errors import redact
from dtqkit.model.settings import variables
from dtqkit.run.supervisor import environment_of


def test_nothing_set_gives_the_documented_defaults() -> None:
    settings = Settings.from_env({})
    assert (settings.port, settings.ws_port, settings.num_workers, settings.concurrency) == (3000, 8080, 3, 8)
    assert (settings.heartbeat_s, settings.lease_s, settings.silence_s, settings.round_s) == (2.0, 180.0, 9.0, 60.0)


def test_the_readme_names_every_variable() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    unused = {"max_workers", "autoscale_threshold"}  # read, so that an environment may have them; nothing scales yet
    named = {name for field in Settings.__struct_fields__ if field not in unused for name in variables(field)}
    assert {name for name in named if f"`{name}`" not in readme} == set()


def test_the_environment_is_read_when_it_is_asked_for() -> None:
    environment = {"REDIS_URL": "redis://h:1/0", "MONGODB_URI": "mongodb://m", "PORT": "4000", "DTQ_LEASE_S": "9.5"}
    settings = Settings.from_env({**environment, "CORS_ORIGINS": "https://a.example, https://b.example"}, port=5000)
    assert (settings.redis_url, settings.atlas_uri) == ("redis://h:1/0", "mongodb://m")
    assert (settings.port, settings.lease_s) == (5000, 9.5)
    assert settings.cors_origins == ("https://a.example", "https://b.example")


def test_atlas_uri_wins_over_mongodb_uri() -> None:
    both = {"ATLAS_URI": "mongodb://atlas", "MONGODB_URI": "mongodb://other"}
    assert Settings.from_env(both).atlas_uri == "mongodb://atlas"


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("PORT", "http", "int"),
        ("PORT", "70000", "65535"),
        ("NUM_WORKERS", "0", ">= 1"),
        ("DTQ_LEASE_S", "-1", ">= 0.5"),
        ("DTQ_NAMESPACE", "a b", "regex"),
        ("REDIS_URL", "http://x", "redis://"),
        ("ATLAS_URI", "localhost", "mongodb://"),
    ],
)
def test_a_wrong_value_names_the_variable_and_what_is_allowed(variable: str, value: str, allowed: str) -> None:
    with pytest.raises(SettingsError) as error:
        Settings.from_env({variable: value})
    assert variable in str(error.value)
    assert allowed in str(error.value)


def test_a_wrong_secret_is_not_shown() -> None:
    with pytest.raises(SettingsError) as error:
        Settings.from_env({"ATLAS_URI": "postgres://user:canary@host"})
    assert "canary" not in str(error.value)


def test_a_setting_that_does_not_exist_is_refused() -> None:
    with pytest.raises(SettingsError, match="no setting 'redis'"):
        Settings().replace(redis="x")


def test_no_secret_is_in_the_repr() -> None:
    settings = Settings(
        redis_url="redis://user:canary@h:1/0",
        atlas_uri="mongodb+srv://user:canary@h/?authSource=admin",
        token="canary",
        read_token="canary",
        sentry_dsn="https://canary@sentry.example/1",
    )
    assert "canary" not in repr(settings)
    assert "h:1/0" in repr(settings)


def test_another_process_can_be_given_the_same_settings() -> None:
    settings = Settings(lease_s=7.0, namespace="n", allowed_hosts=("a", "b"), token="t")
    assert Settings.from_env(environment_of(settings)) == settings


def test_a_worker_process_is_given_no_secret_of_a_server() -> None:
    settings = Settings(token="canary-1", read_token="canary-2", sentry_dsn="https://canary@sentry.example/1")
    assert "canary" not in str(environment_of(settings.without_tokens()))


def test_another_process_does_not_take_what_is_empty_from_the_environment() -> None:
    inherited = {"DTQ_NAMESPACE": "another", "DTQ_ALLOWED_HOSTS": "a", "DTQ_TOKEN": "t"}
    assert Settings.from_env({**inherited, **environment_of(Settings())}) == Settings()


def test_every_setting_has_a_variable_of_its_own() -> None:
    names = [name for field in Settings.__struct_fields__ for name in variables(field)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "text",
    [
        "Error connecting to redis://u:canary@host:1/0.",
        "mongodb+srv://u:canary@a.example,b.example/?x=1 refused",
        "mongodb://u:p@canary@host/db failed",
        "https://host/path?token=canary&x=1",
        "mongodb://host/?tls=true&tlsCertificateKeyFilePassword=canary&w=1",
        "mongodb://host/?authMechanismProperties=AWS_SESSION_TOKEN:canary",
        "rediss://host:1/0?ssl_password=canary",
    ],
)
def test_an_error_text_loses_its_secrets(text: str) -> None:
    assert "canary" not in redact(text)


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n", " ", "\v"])
def test_the_line_ends_of_a_file_from_windows_are_no_part_of_a_setting(end: str) -> None:
    environment = {"DTQ_TOKEN": "abc", "REDIS_URL": "redis://h:1/0", "ATLAS_URI": "mongodb://m", "PORT": "4000"}
    settings = Settings.from_env({name: f"{value}{end}" for name, value in environment.items()})
    assert settings == Settings.from_env(environment)
    assert settings.replace(token=f"abc{end}").token == "abc"


@pytest.mark.parametrize("char", ["\r", "\0", "\x7f", "\t"])
def test_a_secret_with_a_control_character_in_it_is_refused_and_the_character_is_named(char: str) -> None:
    with pytest.raises(SettingsError, match="DTQ_TOKEN") as error:
        Settings.from_env({"DTQ_TOKEN": f"can{char}ary"})
    assert repr(char) in str(error.value)
    assert "ary" not in str(error.value)
