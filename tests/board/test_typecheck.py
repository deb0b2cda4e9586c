"""What `make lint` prints when TypeScript cannot be installed."""

from pathlib import Path

import pytest

from tests.board import typecheck
from tests.node import node_or_skip


@pytest.mark.parametrize(("required", "status"), [("", 0), ("browser,typescript", 1)])
def test_a_missing_npm_registry_is_reported_and_fails_only_where_required(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, required: str, status: int
) -> None:
    node_or_skip()
    monkeypatch.setattr(typecheck, "FOLDER", tmp_path)
    monkeypatch.setattr(typecheck, "COMPILER", tmp_path / "tsc")
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "cache"))
    monkeypatch.setenv("DTQ_REQUIRE", required)
    assert typecheck.main() == status
    printed = capsys.readouterr().err
    assert printed.startswith("THE TYPES OF THE BOARD ARE NOT CHECKED: npm could not install typescript")
