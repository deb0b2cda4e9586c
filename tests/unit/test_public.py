"""The public surface: what is promised is there, and importing it costs little."""

from __future__ import annotations

import subprocess
import sys

import dtqkit


def test_all_that_is_promised_is_there_and_nothing_else() -> None:
    assert sorted(dtqkit.__all__) == dtqkit.__all__
    public = {name for name in vars(dtqkit) if not name.startswith("_")}
    modules = {name for name in public if type(getattr(dtqkit, name)).__name__ == "module"}
    assert public - modules - {"VERSION"} == set(dtqkit.__all__) - {"__version__"}


def test_importing_the_package_imports_no_face_and_none_of_their_libraries() -> None:
    code = (
        "import sys, dtqkit\n"
        "heavy = {'numpy', 'pandas', 'matplotlib', 'simpy', 'ipywidgets', 'typer', 'rich', 'IPython'}\n"
        "faces = {f'dtqkit.{f}' for f in ('web', 'dashboard', 'notebook', 'capacity', 'ops', 'cli')}\n"
        "print(sorted((heavy | faces) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_error_has_a_code_of_its_own() -> None:
    from dtqkit.model import errors

    kinds = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.DtqError)]
    codes = [kind.code for kind in kinds]
    assert len(codes) == len(set(codes))
    assert all(kind.__doc__ for kind in kinds)
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in kinds)
