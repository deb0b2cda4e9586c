"""Type checkers accept the documented examples, refuse wrong arguments, and find every public name typed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import dtqkit
import dtqkit.testing

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
#: What pyright says of a name whose type nobody has written; of names that are made of such, it says more.
UNWRITTEN = re.compile(r"Type is missing type annotation|Type unknown for|Type of metaclass unknown")
FILES = ("accepted.py", "refused.py")


#: What the public types do not come from need not be read, which takes mypy minutes.
MYPY = """
[mypy]
strict = true
follow_imports = silent
python_version = 3.11
[mypy-pandas.*,pymongo.*,bson.*,redis.*,numpy.*,scipy.*,tornado.*,matplotlib.*,simpy.*]
follow_imports = skip
follow_imports_for_stubs = true
ignore_missing_imports = true
[mypy-IPython.*,ipywidgets.*,anywidget.*,traitlets.*,rich.*,typer.*]
follow_imports = skip
follow_imports_for_stubs = true
ignore_missing_imports = true
"""

Errors = dict[str, dict[int, str]]


def by_pyright(tmp_path: Path) -> Errors:
    """Errors by line, of each file."""
    (tmp_path / "pyrightconfig.json").write_text("{}")
    for name in FILES:
        (tmp_path / name).write_text((HERE / name).read_text())
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    errors: Errors = {}
    for found in json.loads(done.stdout)["generalDiagnostics"]:
        if found["severity"] == "error":
            line = found["range"]["start"]["line"] + 1
            errors.setdefault(Path(found["file"]).name, {})[line] = found["message"]
    return errors


def by_mypy(tmp_path: Path) -> Errors:
    """The same."""
    config = tmp_path / "mypy.ini"
    config.write_text(MYPY)
    command = [sys.executable, "-m", "mypy", f"--config-file={config}", f"--cache-dir={tmp_path}"]
    files = [str(HERE / name) for name in FILES]
    done = subprocess.run([*command, *files], capture_output=True, text=True, cwd=ROOT)
    errors: Errors = {}
    for name, line, message in re.findall(r"(\w+\.py):(\d+): error: (.*)", done.stdout):
        errors.setdefault(name, {})[int(line)] = message
    assert errors or done.returncode == 0, done.stdout + done.stderr
    return errors


@pytest.mark.timeout(400)
@pytest.mark.parametrize("check", [by_pyright, by_mypy], ids=["pyright", "mypy"])
def test_examples_are_accepted_and_wrong_arguments_refused(check: Callable[[Path], Errors], tmp_path: Path) -> None:
    accepted, refused = FILES
    lines = enumerate((HERE / refused).read_text().splitlines(), start=1)
    expected = {number for number, line in lines if line.endswith("# refused")}
    assert len(expected) > 20

    errors = check(tmp_path)

    assert errors.get(accepted, {}) == {}
    found = errors.get(refused, {})
    assert {number: found.get(number) for number in expected ^ set(found)} == {}


@pytest.mark.timeout(400)
def test_every_public_name_has_a_complete_type(tmp_path: Path) -> None:
    """Of the installed package; without what comes from ipywidgets, which has no types."""
    scripts = str(Path(sys.executable).parent)
    command = ["pyright", "--outputjson", "--ignoreexternal", "--verifytypes", "dtqkit"]
    env = {**os.environ, "PATH": os.pathsep.join((scripts, os.environ["PATH"]))}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    public = {
        getattr(package, name).__module__
        for package in (dtqkit, dtqkit.testing)
        for name in package.__all__
        if hasattr(getattr(package, name), "__module__")
    }
    symbols = json.loads(done.stdout)["typeCompleteness"]["symbols"]
    assert len(symbols) > 1000
    unwritten = [
        symbol["name"]
        for symbol in symbols
        if symbol["isExported"]
        and symbol["name"].rpartition(".")[0].startswith(tuple(public))
        and any(UNWRITTEN.match(found["message"]) for found in symbol["diagnostics"])
    ]
    assert unwritten == []
