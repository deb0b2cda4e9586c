"""Two servers behind nginx, as Debian has it, and a rolling restart under load."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.serving import Server
from tests.wait import wait_until
from tests.web.load import Clients

Start = Callable[..., Server]

CONFIGURATION = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log info;
events {{ worker_connections 256; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream servers {{ server 127.0.0.1:{first} max_fails=0; server 127.0.0.1:{second} max_fails=0; keepalive 16; }}
  map $http_upgrade $upstream_connection {{ default upgrade; '' ''; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://servers; proxy_http_version 1.1; proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_connect_timeout 2s;
      proxy_set_header Connection $upstream_connection; proxy_set_header Upgrade $http_upgrade;
    }}
  }}
}}
"""


@pytest.fixture(scope="module")
def nginx() -> str:
    path = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if path is None:
        missing = "no nginx is installed (Debian: apt-get install nginx-light)"
        if "nginx" in os.environ.get("DTQ_REQUIRE", ""):
            pytest.fail(f"DTQ_REQUIRE wants nginx: {missing}")
        pytest.skip(f"NOT TESTED BEHIND NGINX: {missing}")
    return path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@contextmanager
def balanced(nginx: str, folder: Path, first: int, second: int) -> Iterator[int]:
    """nginx before two ports; its own."""
    port = free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(folder=folder, first=first, second=second, port=port))
    with subprocess.Popen([nginx, "-e", str(folder / "error.log"), "-c", str(configuration)]) as process:

        def up() -> bool:
            assert process.poll() is None, (folder / "error.log").read_text()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        try:
            wait_until(up)
            yield port
        finally:
            process.terminate()


@pytest.mark.timeout(300)
def test_a_rolling_restart_behind_nginx_fails_no_request(nginx: str, start_server: Start, tmp_path: Path) -> None:
    servers = [
        start_server("--processes", processes, port=free_port(), drain_s=1.0, behind_proxy=1)
        for processes in ("1", "2")
    ]
    ports = [server.settings.port for server in servers]
    with balanced(nginx, tmp_path, *ports) as port, Clients(port, 6) as load:
        for server in servers:
            before = load.answers.total()
            wait_until(lambda before=before: load.answers.total() > before + 50, timeout_s=30)
            assert server.stop() == 0
            server.start(wait=False)
            server.wait_ready(timeout_s=90)  # beside six clients that never pause
        before = load.answers.total()
        wait_until(lambda: load.answers.total() > before + 50, timeout_s=30)
    assert set(load.answers) == {201}, (load.answers, (tmp_path / "error.log").read_text()[-2000:])
