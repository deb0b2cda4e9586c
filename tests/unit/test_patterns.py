"""Which patterns of a schema a server tries, and on how long a text."""

import math
import time

import pytest

from dtqkit.model.errors import InvalidPayload
from dtqkit.support.patterns import longest_for
from dtqkit.tasks.schema import PayloadValidator


@pytest.mark.parametrize(
    "pattern", ["^[a-z]+$", r"^\d{4}-\d{2}$", "^[A-Z]{2}[0-9]+$", "^a|b$", r"\d", r"^[)(*+]+$", "^(ab|cd)$"]
)
def test_a_plain_pattern_is_tried_on_any_text(pattern: str) -> None:
    assert longest_for(pattern) == math.inf


#: Patterns that backtrack, and the text that makes them.
WORST = [
    ("^(a+)+$", "a"),
    ("^(a|a)*$", "a"),
    ("^(?:a|aa)+$", "a"),
    ("(a*)*b", "a"),
    ("^([a-z]+)*!$", "a"),
    (r"^(a+)\1+$", "a"),
    (r"^(?=(a+))a*b", "a"),
    ("^a*a*a*a*b$", "a"),
    ("a*a*b", "a"),
    ("^a{1,99}a{1,99}a{1,99}b$", "a"),
    (r"\s+$", " "),
    ("^((a{1,9})|b)+c", "a"),
    ("^(a?){30}b", "a"),
    (f"^{'a?' * 30}{'a' * 30}$", "a"),
    ("^x|a*a*b", "a"),
    ("^(?P<n>a+?)+?$", "a"),
]


@pytest.mark.parametrize(("pattern", "letter"), WORST)
def test_a_pattern_that_backtracks_does_not_block_the_server(pattern: str, letter: str) -> None:
    schema = {"type": "object", "properties": {"x": {"type": "string", "pattern": pattern}}, "required": ["x"]}
    validator = PayloadValidator("t", schema)
    for length in (10, 14, 25, 26, 60, 61, 500, 501, 64 * 1024):
        started = time.thread_time()
        try:
            validator.check({"x": letter * length + "!"})
        except InvalidPayload:
            pass
        assert time.thread_time() - started < 0.2, length


def test_what_is_too_long_for_its_pattern_is_left_to_the_worker_but_checked_for_all_else() -> None:
    schema = {
        "type": "object",
        "properties": {"x": {"type": "string", "pattern": "^(a+)+$"}, "n": {"type": "integer"}},
        "required": ["x"],
        "additionalProperties": False,
    }
    validator = PayloadValidator("t", schema)
    validator.check({"x": "a" * 100 + "!"})
    for wrong in ({"x": "a!"}, {"x": "a" * 100, "n": "1"}, {"x": "a" * 100, "y": 1}):
        with pytest.raises(InvalidPayload):
            validator.check(wrong)
