"""The project is written in plain words: phrases that readers had to guess at do not come back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
ENDINGS: Final = frozenset({".py", ".md", ".js", ".mjs", ".ts", ".html", ".css", ".lua"})

#: What is not written, as a pattern, and what is written instead. An underscore counts as a space.
BANNED: Final = {
    r"heard": "received, known, or the last known state",
    r"(nobody|no one) (heard|hears)": "was not published, or was not received",
    r"by the law": "on lease expiry",
    r"by the short cut|short cut": "on missed heartbeats",
    r"(falls?|fell|fallen) silent": "stops sending heartbeats, or stops answering",
    r"(another|each|any|this|new) life": "requeue, or attempt",
    r"lives that": "requeues",
    r"(bury|buries|buried)": "becomes a dead letter",
    r"nobody works": "no workers are running",
    r"(come|comes|came) to life": "start",
    r"(put|puts|puts that|set|puts it|puts them|put it|put them) right": "repair",
    r"put off": "postpone",
    r"not ours any more|no longer ours": "claim lost",
    r"says nothing else|says otherwise": "by default",
    r"lives as well": "works equally well",
    r"for ever": "forever, or without a limit",
    r"without end": "unbounded, or forever",
    r"each month again": "resets monthly",
    r"anew": "again",
    r"at any price": "say what is worse",
    r"what (becomes|became) of": "the outcome, or what happens to",
    r"whoever": "the caller, the process that, or each that",
    r"told (as|by|of|that|to|us|me)|tales?|tells (why|of|that|who)": "reported, returned, logged, or raised",
    r"cannot (tell|be told)": "does not know, or cannot compute",
    r"last words|goodbyes?|forsaken|forsakes?": "last output, deregister, abandoned",
    r"reach(es)? so far": "allows",
    r"(cross|crosses) the wire|(to|from) wire": "is sent, or JSON, as in to_json and job_json",
    r"what came of": "the outcome of",
    r"heeds?|unfit|hopeless|wards?": "say what it does: follow, unusable, watched",
    r"sees to": "handles",
    r"documents of (old|before)": "of an older version",
    r"doorkeeper": "TokenAuth",
    r"vitals": "HealthMonitor",
    r"(does|do|means|mean) no harm|harms none": "is harmless",
}
WORDS: Final = re.compile("|".join(rf"(?:\b(?:{phrase})\b)" for phrase in BANNED), re.IGNORECASE)


def texts() -> Iterator[tuple[str, str]]:
    """(path, text) of everything that people read; of a notebook, its cells without their outputs."""
    for folder in "dtqkit", "docs", "tests", "server":
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in ENDINGS and path != Path(__file__):
                yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
    for name in "README.md", "CONTRIBUTING.md", "SECURITY.md":
        yield name, (ROOT / name).read_text(encoding="utf-8")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        yield path.name, "\n".join("".join(cell["source"]) for cell in cells)


def found_in(text: str) -> list[str]:
    """Each line with such a phrase: its number, the phrase, and what to write."""
    found: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        for match in WORDS.finditer(line.replace("_", " ")):
            instead = next(plain for phrase, plain in BANNED.items() if re.fullmatch(phrase, match[0], re.IGNORECASE))
            found.append(f"{number}: {match[0]!r} (write: {instead})")
    return found


def test_the_phrases_that_we_no_longer_use_are_nowhere() -> None:
    found = [f"{path}:{place}" for path, text in texts() for place in found_in(text)]
    assert found == [], "\n".join(["these are hard to understand:", *found])


@pytest.mark.parametrize("text", ["It waits for ever.", "def test_by_the_law() -> None:", "The ids were Put Right"])
def test_a_phrase_is_found_in_any_case_and_in_a_name(text: str) -> None:
    assert len(found_in(text)) == 1


@pytest.mark.parametrize("text", ["forever", "whatever", "renewal", "a setting that is put to the right"])
def test_other_words_are_left_alone(text: str) -> None:
    assert found_in(text) == []
