"""How the board's modules become one. tests/browser/test_linked.py compares the two in a browser."""

import json
import subprocess
from pathlib import Path

import pytest

from dtqkit.dashboard import BOARD
from dtqkit.support.linker import LinkError, link
from tests.node import node_or_skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Modules that need each other crosswise, with names that occur in several of them."""
    write(
        tmp_path,
        index='import { one } from "./one.js";\nimport { two as second } from "./two.js";\n'
        "export default { one, second };\n",
        one='import { leaf, order } from "./leaf.js";\nconst own = "one";\nexport const one = [own, leaf];\n'
        "order.push(own);\n",
        two='import { leaf, order } from "./leaf.js";\nimport { one } from "./one.js";\nconst own = "two";\n'
        "export function two() {\n  return [own, ...one, ...order];\n}\norder.push(own);\n",
        leaf='// @ts-check\n/** A comment\n * that is long. */\nexport const leaf = "leaf";\n'
        'export class Unused {}\nexport const order = ["leaf"];\n',
    )
    return tmp_path


def write(folder: Path, **modules: str) -> None:
    for name, text in modules.items():
        (folder / f"{name}.js").write_text(text)


def test_a_module_comes_once_and_after_those_that_it_imports(folder: Path) -> None:
    text = link(folder)
    assert [line.split()[1] for line in text.splitlines() if line.startswith("const $")] == [
        "$leaf",
        "$one",
        "$two",
        "$index",
    ]
    assert text.endswith("export default $index;\n")


def test_names_of_one_module_stay_apart_from_those_of_another(folder: Path) -> None:
    program = link(folder).replace(
        "export default $index;", "process.stdout.write(JSON.stringify([$index.one, $index.second()]));"
    )
    command = [node_or_skip(), "--input-type=module", "-e", program]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert json.loads(printed) == [["one", "leaf"], ["two", "one", "leaf", "leaf", "one", "two"]]


def test_comments_that_only_a_reader_needs_are_left_out(folder: Path) -> None:
    assert "comment" not in link(folder)
    assert "@ts-check" not in link(folder)


def test_types_within_a_line_are_left_out(folder: Path) -> None:
    """Those of today alone would be a hundredth of what is sent."""
    write(
        folder,
        one="/** @param {string} a */\nconst own = (a) => /** @type {string | null} */ (a) ?? '/** kept */';\n"
        "export const one = own;\n",
    )
    assert "const own = (a) => (a) ?? '/** kept */';\n" in link(folder)
    assert "@type" not in link(BOARD)


def test_lines_are_neither_indented_nor_empty(folder: Path) -> None:
    """It would be a thirtieth of what a notebook stores."""
    write(folder, leaf='export const order = [];\n\n\nexport const leaf =\n  "leaf";\n')
    assert [line for line in link(folder).splitlines() if not line or line.startswith(" ")] == []
    assert [line for line in link(BOARD).splitlines() if not line or line.startswith(" ")] == []


def test_modules_that_import_each_other_are_an_error_that_names_them(folder: Path) -> None:
    write(folder, leaf='import { two } from "./two.js";\nexport const leaf = two;\nexport const order = [];\n')
    with pytest.raises(LinkError, match=r"^index -> one -> leaf -> two -> leaf: modules import each other"):
        link(folder)


def test_a_name_that_is_not_exported_is_an_error(folder: Path) -> None:
    write(folder, leaf="const leaf = 1;\nexport const order = [];\n")
    with pytest.raises(LinkError, match=r"^one\.js imports leaf, which leaf\.js does not export$"):
        link(folder)


@pytest.mark.parametrize(
    "line",
    [
        'import * as all from "./leaf.js";',
        'import leaf from "./leaf.js";',
        'import { leaf } from "lit";',
        'import "./leaf.js";',
        'export { leaf } from "./leaf.js";',
        'export * from "./leaf.js";',
        "export let changing = 1;",
        'const later = await import("./leaf.js");',
    ],
)
def test_a_form_that_is_not_understood_is_an_error(folder: Path, line: str) -> None:
    write(folder, one=f"{line}\nexport const one = 1;\n")
    with pytest.raises(LinkError, match=r"^one\.js: .* is not understood"):
        link(folder)


@pytest.mark.parametrize(
    "text",
    [
        "const css = `\n// no comment, but text\n`;\n",
        'const help = `\nimport { leaf } from "./leaf.js";\n`;\n',
        "const page = `one ${leaf}\n  /* not a comment */\n`;\n",
    ],
)
def test_a_template_literal_of_several_lines_is_an_error_and_is_not_changed_unnoticed(folder: Path, text: str) -> None:
    write(folder, one=f"{text}export const one = 1;\n")
    with pytest.raises(LinkError, match=r'^one\.js: "const .*": a template literal must end on the line'):
        link(folder)


def test_template_literals_of_one_line_stay_as_they_are(folder: Path) -> None:
    line = "const text = `// ${`/* a */ ${1}`} \\` import(x)`.slice(1);"
    write(folder, one=f"{line.replace('import(x)', 'import x')}\nexport const one = text;\n")
    assert line.replace("import(x)", "import x") in link(folder)


def test_an_import_in_a_comment_is_none(folder: Path) -> None:
    write(folder, one='/*\nimport { no } from "./none.js";\n * `\n */\nexport const one = 1;\n')
    assert "none" not in link(folder)


def test_a_default_export_belongs_to_the_first_module_alone(folder: Path) -> None:
    write(folder, one="export const one = 1;\nexport default one;\n")
    with pytest.raises(LinkError, match="is not understood"):
        link(folder)


def test_the_page_s_own_modules_are_not_in_a_notebook() -> None:
    assert "WebSocket" not in link(BOARD)
    assert "sessionStorage" not in link(BOARD)
    assert "DTQ_TOKEN" not in link(BOARD)
