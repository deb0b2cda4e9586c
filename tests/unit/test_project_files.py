"""The files that GitHub and contributors use agree with the project."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from dtqkit import VERSION

ROOT = Path(__file__).parents[2]


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


def test_ci_runs_every_python_version_that_the_package_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [c.rpartition(" ")[2] for c in project["classifiers"] if re.search(r"Python :: 3\.\d+$", c)]
    job = read(".github/workflows/test.yml")["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == named
    assert any("make test" in step.get("run", "") for step in job["steps"])


def test_the_workflow_of_the_documentation_runs_a_target_whose_tests_exist() -> None:
    (job,) = read(".github/workflows/docs.yml")["jobs"].values()
    (command,) = [step["run"] for step in job["steps"] if "run" in step]
    assert command == "make docs-check PYTHON=python"
    (recipe,) = re.findall(r"^docs-check:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    tests = re.findall(r"tests/\S+\.py", recipe)
    assert tests
    assert [test for test in tests if not (ROOT / test).exists()] == []


@pytest.mark.parametrize("form", ["bug", "feature"])
def test_an_issue_form_asks_for_version_output_and_stores(form: str) -> None:
    fields = [field for field in read(f".github/ISSUE_TEMPLATE/{form}.yml")["body"] if field["type"] != "markdown"]
    asked = " ".join(str(field["attributes"]) for field in fields)
    for what in ("dtqkit --version", "utput", "dtqkit command", "Redis", "MongoDB"):
        assert what in asked
    required = {field["id"] for field in fields if field.get("validations", {}).get("required")}
    assert "version" in required


def test_what_runs_before_a_commit_is_what_make_runs() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (local,) = read(".pre-commit-config.yaml")["repos"]
    for hook in local["hooks"]:
        program, _, target = hook["entry"].partition(" ")
        if program == "make":
            assert re.search(rf"^{target}:", makefile, re.MULTILINE)
        else:
            assert f"$(BIN)/{Path(program).name} {target.split()[0]}" in makefile


def test_the_changelog_has_a_section_for_this_version_with_one_entry_for_each_change() -> None:
    title, *sections = re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert title.strip() == "# Changelog"
    assert sections[0].startswith(f"{VERSION} (")
    for section in sections:
        heading, _, body = section.partition("\n")
        assert re.fullmatch(r"\d+\.\d+\.\d+ \((unreleased|\d{4}-\d\d-\d\d)\)", heading)
        lines = [line for line in body.splitlines() if line]
        assert lines[0].startswith("- ")
        assert [line for line in lines if not re.match(r"(- \S|  \S)", line)] == []
