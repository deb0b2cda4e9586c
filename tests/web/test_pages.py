"""The dashboard's files over HTTP: all of them, as they are, and sent once."""

import gzip
import re

import pytest

from dtqkit.dashboard import BOARD, FOLDER
from dtqkit.support.linker import link, style_sheet
from dtqkit.web.pages import VERSION
from tests.serving import Server

PAGE = (FOLDER / "index.html").read_text()
NAMED = sorted(re.findall(r'(?:href|src)="([^"]+)"', PAGE))
KINDS = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}


def test_the_page_names_modules_sheets_and_its_icon() -> None:
    assert {name.rpartition(".")[2] for name in NAMED} == set(KINDS)
    assert {"config.js", "page.js", "board/index.js", "board/base.css"} <= set(NAMED)


@pytest.mark.parametrize("name", NAMED)
def test_what_the_page_names_is_served_as_it_is(server: Server, name: str) -> None:
    answer = server.get(f"/{name}", token=None)
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith(KINDS[name.rpartition(".")[2]])
    assert answer.body == (FOLDER / name).read_bytes()


def test_a_page_of_others_gets_the_board_as_one_module_and_one_sheet(server: Server) -> None:
    for name, text in (("board.js", link(BOARD)), ("board.css", style_sheet(FOLDER))):
        for path in (f"/{name}", f"/api/{name}"):
            answer = server.get(path, token=None)
            assert (answer.status, answer.body.decode()) == (200, text)
            assert answer.headers["Content-Type"].startswith(KINDS[name.rpartition(".")[2]])
            head = server.ask("HEAD", path, token=None)
            assert (head.status, head.body) == (200, b"")


@pytest.mark.parametrize("path", ["/", "/board/table.js", "/board/base.css", "/api/board/table.js"])
def test_a_browser_gets_less_than_half_and_the_same(server: Server, path: str) -> None:
    plain = server.get(path, token=None)
    packed = server.get(path, token=None, headers={"Accept-Encoding": "gzip, deflate, br"})
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert len(packed.body) < len(plain.body) / 2
    assert plain.headers["Vary"] == packed.headers["Vary"] == "Origin, Accept-Encoding"


@pytest.mark.parametrize("taken", ["gzip;q=0", "gzip; q=0.0, br", "br", "gzipped"])
def test_a_client_that_takes_no_gzip_gets_none(server: Server, taken: str) -> None:
    assert "Content-Encoding" not in server.get("/page.js", headers={"Accept-Encoding": taken}).headers
    weighed = server.get("/page.js", headers={"Accept-Encoding": "br, gzip;q=0.5"})
    assert weighed.headers["Content-Encoding"] == "gzip"


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_what_a_browser_has_is_not_sent_again(server: Server, encoding: str) -> None:
    headers = {"Accept-Encoding": encoding}
    first = server.get("/board/table.js", token=None, headers=headers)
    assert first.headers["Cache-Control"] == "no-cache"  # kept, and asked about each time
    again = server.get("/board/table.js", token=None, headers={**headers, "If-None-Match": first.headers["Etag"]})
    assert (again.status, again.body) == (304, b"")
    assert again.headers["Etag"] == first.headers["Etag"]
    other = server.get("/board/table.js", token=None, headers={**headers, "If-None-Match": '"another"'})
    assert (other.status, other.body) == (200, first.body)


def test_answers_of_the_queue_are_never_kept(server: Server) -> None:
    answer = server.get("/jobs", headers={"Accept-Encoding": "gzip"})
    assert "Etag" not in answer.headers
    assert "Content-Encoding" not in answer.headers


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_the_page_names_files_of_its_own_version_only(server: Server, prefix: str) -> None:
    """Servers of two versions may stand behind one address."""
    page = server.get(f"{prefix}/", token=None)
    named = sorted(re.findall(r'(?:href|src)="([^"]+)"', page.body.decode()))
    assert named == sorted(f"v/{VERSION}/{name}" for name in NAMED)
    assert page.headers["Cache-Control"] == "no-cache"
    for name in NAMED:
        answer = server.get(f"{prefix}/v/{VERSION}/{name}", token=None)
        assert (answer.status, answer.body) == (200, (FOLDER / name).read_bytes())
        assert "immutable" in answer.headers["Cache-Control"]
    other = server.get(f"{prefix}/v/{'0' * 16}/board/table.js", token=None)
    assert (other.status, "reload the page" in other.body.decode()) == (404, True)
    assert server.get(f"{prefix}/v/{VERSION}/", token=None).status == 404


def test_modules_and_sheets_name_each_other_by_relative_addresses() -> None:
    """Else they would leave their version."""
    texts = [file.read_text() for kind in ("js", "css") for file in FOLDER.rglob(f"*.{kind}")]
    named = [name for text in texts for name in re.findall(r'(?:from|import|url\()\s*\(?["\']([^"\']+)["\']', text)]
    assert len(named) > 50
    assert [name for name in named if not name.startswith(("./", "data:"))] == []
