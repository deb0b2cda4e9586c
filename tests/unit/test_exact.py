"""Integers that JavaScript would round cross to the board and back as they are."""

import json
import subprocess
from typing import Any

from dtqkit.dashboard import BOARD
from dtqkit.notebook.board_rpc import packed, unpacked
from tests.node import node_or_skip

LONGS = (2**53 - 1, 2**53, 2**53 + 1, 9007199254740993, -9007199254740993, 2**63 - 1, -(2**63))
#: Texts that look like numbers stay texts, and floats floats.
VALUE = {
    "longs": LONGS,
    "n": 5,
    "text": '"9007199254740993" and 9007199254740993\\',
    "float": 1e300,
    "f": 0.1234567890123456789,
}


def in_node(code: str, given: Any) -> Any:
    """What `code` makes of `given` (a text), beside the board's own `exact`."""
    names = f'import {{ copied, exact, revive }} from "{(BOARD / "exact.js").as_uri()}";'
    program = f"{names}\nconst given = {json.dumps(given)};\nprocess.stdout.write(String({code}));"
    command = [node_or_skip(), "--input-type=module", "-e", program]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_json_goes_through_the_board_without_a_changed_digit() -> None:
    text = json.dumps(VALUE)
    assert json.loads(in_node("exact.stringify(exact.parse(given))", text)) == json.loads(text)
    assert in_node("exact.stringify(exact.parse(given), 2)", "[9007199254740993]") == "[\n  9007199254740993\n]"
    assert in_node("exact.parse(given).n === 9007199254740993n", '{"n": 9007199254740993}') == "true"
    assert in_node("typeof exact.parse(given)", "9007199254740991") == "number"


def test_a_message_of_a_notebook_goes_through_the_board_without_a_changed_digit() -> None:
    message = json.dumps(packed(json.loads(json.dumps(VALUE))))
    back = in_node("JSON.stringify(copied(copied(JSON.parse(given), revive)))", message)
    assert unpacked(json.loads(back)) == json.loads(json.dumps(VALUE))


def test_what_is_packed_is_unpacked() -> None:
    value = json.loads(json.dumps(VALUE))
    assert unpacked(packed(value)) == value
    assert packed([True, 5, 2**53]) == [True, 5, f"\0{2**53}"]
    assert unpacked("\0x") == "\0x"
