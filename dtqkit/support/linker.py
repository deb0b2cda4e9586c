"""The board as one ES module and one style sheet: a notebook gets texts, and no address that its parts could come from.

Each module becomes a function that is called at once, in the order of the imports: names of one module stay apart from
those of another, as in a browser. Only the forms that the board's modules use are understood; any other is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.resources.abc import Traversable
from typing import Final

_HEAD: Final = "// Joined from the modules of dtqkit/dashboard/board: change those.\n"
_IMPORT: Final = re.compile(r'^import \{([^}]*)\} from "\./(\w+)\.js";\n', re.MULTILINE)
_EXPORT: Final = re.compile(r"^export (?=(?:async )?(?:function|class|const) (\w+))", re.MULTILINE)
#: Lines that only readers and the type checker need.
_COMMENT: Final = re.compile(r"^ *(?://.*|/\*(?:[^*]|\*(?!/))*\*/)\n", re.MULTILINE)
#: Within a line, for the type checker.
_CAST: Final = re.compile(r"/\*\* @type \{[^*\n]*\} \*/ ?")
#: Also empty lines. A text that spans lines, in which these would count, is refused.
_SPACE: Final = re.compile(r"^\s+", re.MULTILINE)
_ESCAPED: Final = re.compile(r"\\.")
_REFUSED: Final = re.compile(r"^(?:import\b|export\b).*|\bimport\(.*", re.MULTILINE)
_SHEET: Final = re.compile(r'<link rel="stylesheet" href="([^"]+)"')


class LinkError(ValueError):
    """The modules cannot be joined; the text names the module and the cure."""


def link(folder: Traversable, entry: str = "index") -> str:
    """All modules that `entry` needs, as one module with the default export of `entry`. Raises LinkError."""
    return link_texts(lambda name: folder.joinpath(name).read_text(encoding="utf-8"), entry)


def link_texts(read: Callable[[str], str], entry: str = "index") -> str:
    """The same of modules whose texts `read` gives, by the name of their files."""
    linked: dict[str, str] = {}
    exports: dict[str, list[str]] = {}

    def add(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise LinkError(f"{' -> '.join([*path, name])}: modules import each other; move what both need to a third")
        if name in linked:
            return
        text = _CAST.sub("", _COMMENT.sub("", read(f"{name}.js")))
        if (line := _open_template(text)) is not None:
            raise LinkError(f'{name}.js: "{line}": a template literal must end on the line on which it begins')
        for names, needed in _IMPORT.findall(text):
            add(needed, (*path, name))
            if missing := {one.split(" as ")[0].strip() for one in names.split(",")} - {"", *exports[needed]}:
                raise LinkError(f"{name}.js imports {', '.join(sorted(missing))}, which {needed}.js does not export")
        exports[name] = _EXPORT.findall(text)
        body = _EXPORT.sub("", _IMPORT.sub(_destructured, text))
        end = f"return {{ {', '.join(exports[name])} }};\n"
        if name == entry:
            body, end = body.replace("\nexport default ", "\nreturn ", 1), ""
        if refused := _REFUSED.search(body):
            raise LinkError(f'{name}.js: "{refused[0]}" is not understood; write import {{ a }} from "./b.js"')
        linked[name] = _SPACE.sub("", f"const ${name} = (() => {{\n{body}{end}}})();\n")

    add(entry, ())
    return "".join([_HEAD, *linked.values(), f"export default ${entry};\n"])


def _open_template(text: str) -> str | None:
    """A line on which a template literal begins or ends: what looks like an import or a comment may be text in it."""
    return next((line.strip() for line in text.splitlines() if _ESCAPED.sub("", line).count("`") % 2), None)


def _destructured(line: re.Match[str]) -> str:
    return f"const {{{line[1].replace(' as ', ': ')}}} = ${line[2]};\n"


def style_sheet(dashboard: Traversable) -> str:
    """The sheets of the page, in its order."""
    page = dashboard.joinpath("index.html").read_text(encoding="utf-8")
    return "\n".join(dashboard.joinpath(name).read_text(encoding="utf-8") for name in _SHEET.findall(page))
