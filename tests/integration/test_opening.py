"""What is said of a MongoDB that cannot be used: each in one sentence, with its cure, and without a password."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dtqkit import DtqError, Settings, SettingsError, StoreUnavailable, TaskQueue
from dtqkit.local import LocalStores
from tests import sample
from tests.replicas import HOST, ReplicaSet


def said(settings: Settings, uri: str, within_s: float = 30.0) -> DtqError:
    """What a submit raises."""
    began = time.monotonic()
    with TaskQueue(settings.replace(atlas_uri=uri)) as queue:
        queue.include("tests.sample")
        with pytest.raises(DtqError) as raised:
            sample.add.submit(1)
    assert time.monotonic() - began < within_s
    text = str(raised.value)
    assert "canary" not in f"{text} {raised.value!r}"
    assert len(text) < 800
    assert "\n" not in text
    return raised.value


@contextmanager
def listening(answer: Callable[[socket.socket], object]) -> Iterator[int]:
    """A port that gives each connection to `answer`, and then closes it."""
    with socket.create_server((HOST, 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return  # closed
                with connection:
                    connection.settimeout(2)
                    try:
                        answer(connection)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


#: A TLS record: alert, fatal, internal error. So ends the handshake at a MongoDB that does not know our address.
ALERT = bytes((21, 3, 3, 0, 2, 2, 80))


@pytest.mark.parametrize(
    ("answer", "options", "cure"),
    [
        (lambda connection: connection.recv(10), "", "perhaps it speaks only TLS"),
        (lambda connection: (connection.recv(1_000), connection.sendall(ALERT)), "?tls=true", "IP access list"),
        (lambda connection: (connection.recv(1_000), connection.sendall(b"HTTP/1.1 400 Bad\r\n\r\n")), "?tls=true",
         "it does not speak TLS"),
    ],
    ids=["closes", "TLS alert", "no TLS"],
)  # fmt: skip
def test_a_server_that_closes_the_connection_is_reported_with_the_cure(
    settings: Settings, answer: Callable[[socket.socket], object], options: str, cure: str
) -> None:
    with listening(answer) as port:
        error = said(settings, f"mongodb://user:canary@{HOST}:{port}/{options}")
    assert isinstance(error, StoreUnavailable)
    assert cure in str(error)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_a_certificate_that_is_not_trusted_or_of_another_host_is_reported_with_the_cure(
    settings: Settings, tmp_path: Path
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate]
    subprocess.run([*make, "-subj", "/CN=elsewhere"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with listening(lambda connection: context.wrap_socket(connection, server_side=True)) as port:
        uri = f"mongodb://user:canary@{HOST}:{port}/?tls=true"
        assert "not trusted: give its CA with tlsCAFile" in str(said(settings, uri))
        assert "for another host name" in str(said(settings, f"{uri}&tlsCAFile={certificate}"))


def test_a_file_that_is_missing_is_an_error_of_the_setting(settings: Settings, tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    error = said(settings, f"mongodb://user:canary@{HOST}/?tls=true&tlsCAFile={missing}")
    assert isinstance(error, SettingsError)
    assert str(error) == f"ATLAS_URI names a file that cannot be used: {missing}: No such file or directory"


def test_a_wrong_set_name_a_closed_port_and_an_unknown_host_are_distinguished(
    settings: Settings, stores: LocalStores
) -> None:
    port = stores.atlas_uri.partition("?")[0].rpartition(":")[2].rstrip("/")
    assert "the replica set 'other' that the URI names" in str(
        said(settings, f"mongodb://{HOST}:{port}/?replicaSet=other")
    )
    for options in ("", "?directConnection=true&replicaSet=rs"):
        error = said(settings, f"mongodb://user:canary@{HOST}:1/{options}")
        assert isinstance(error, StoreUnavailable)
        assert error.reason == "away"
        assert "nothing listens there" in str(error)
    assert "host name cannot be resolved" in str(said(settings, "mongodb://user:canary@no-such-host.invalid/"))


def test_timeouts_of_the_uri_count(settings: Settings) -> None:
    began = time.monotonic()
    said(settings, f"mongodb://{HOST}:1/?serverSelectionTimeoutMS=4500")
    assert time.monotonic() - began > 4.4


def test_a_standalone_server_and_a_set_that_is_not_initiated_are_reported(settings: Settings) -> None:
    with ReplicaSet(1, replicated=False) as standalone:
        (member,) = standalone.members
        for options in ("", "?retryWrites=false"):
            error = said(settings, f"mongodb://{HOST}:{member.port}/{options}")
            assert isinstance(error, StoreUnavailable)
            assert error.reason == "misconfigured"
            assert "is a standalone server, and dtqkit needs a replica set" in str(error)
        error = said(settings, f"mongodb://{HOST}:{member.port}/?directConnection=true&replicaSet=rs")
        assert isinstance(error, StoreUnavailable)
        assert error.reason == "misconfigured"
        assert "is not a member of a replica set" in str(error)
    with ReplicaSet(1, initiated=False) as new:
        (member,) = new.members
        for options in ("", "?replicaSet=rs", "?directConnection=true", "?directConnection=true&replicaSet=rs"):
            error = said(settings, f"mongodb://{HOST}:{member.port}/{options}")
            assert isinstance(error, StoreUnavailable)
            assert error.passes  # it may be initiated in a moment
            assert "rs.initiate()" in str(error)


def test_a_member_that_dies_and_comes_back_is_away_meanwhile_and_used_again(settings: Settings) -> None:
    with ReplicaSet(1) as replicas:
        (member,) = replicas.members
        uri = f"mongodb://{HOST}:{member.port}/?directConnection=true&replicaSet=rs"
        with TaskQueue(settings.replace(atlas_uri=uri)) as queue:
            queue.include("tests.sample")
            sample.add.submit(1)
            replicas.kill(member)
            said = ""
            while "nothing listens there" not in said:  # at first the driver says that the connection broke
                with pytest.raises(StoreUnavailable) as raised:
                    sample.add.submit(1)
                assert raised.value.passes, str(raised.value)
                said = str(raised.value)
            threading.Timer(1, replicas.start, [member]).start()
            sample.add.options(wait_s=30).submit(1)  # a refusal that a person must mend would not be retried
