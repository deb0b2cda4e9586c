"""The public surface: what is promised is there, and importing it costs little."""

from __future__ import annotations

import subprocess
import sys

import pytest

import dtqkit
from dtqkit import _public


def printed(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_all_that_is_promised_is_there_and_nothing_else() -> None:
    assert sorted(dtqkit.__all__) == dtqkit.__all__ == dir(dtqkit)
    public = {name for name in vars(_public) if not name.startswith("_")}
    assert public - {"VERSION"} == set(dtqkit.__all__) - {"__version__"}
    starred = printed("before = set(dir())\nfrom dtqkit import *\nprint(*sorted(set(dir()) - before - {'before'}))")
    assert starred.split() == dtqkit.__all__
    with pytest.raises(AttributeError, match="module 'dtqkit' has no attribute 'Tsak'"):
        _ = dtqkit.Tsak  # pyright: ignore[reportAttributeAccessIssue]


def test_the_package_loads_the_client_at_its_first_use() -> None:
    loaded = "print('dtqkit.client.queue' in sys.modules)"
    assert printed(f"import sys, dtqkit\n{loaded}\ndtqkit.TaskQueue\n{loaded}").split() == ["False", "True"]


def test_importing_the_package_imports_no_face_and_none_of_their_libraries() -> None:
    code = (
        "import sys\nfrom dtqkit import *\n"
        "heavy = {'numpy', 'pandas', 'matplotlib', 'simpy', 'ipywidgets', 'typer', 'rich', 'IPython'}\n"
        "faces = {f'dtqkit.{f}' for f in ('web', 'dashboard', 'notebook', 'capacity', 'ops', 'cli')}\n"
        "print(sorted((heavy | faces) & set(sys.modules)))"
    )
    assert printed(code).strip() == "[]"


def test_every_error_has_a_code_of_its_own() -> None:
    from dtqkit.model import errors

    kinds = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.DtqError)]
    codes = [kind.code for kind in kinds]
    assert len(codes) == len(set(codes))
    assert all(kind.__doc__ for kind in kinds)
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in kinds)
