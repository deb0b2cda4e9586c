"""How output is cut into the lines of a job's log."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dtqkit.worker.lines import MAX_HELD, Cutter, Output, marked


def lines_of(*chunks: bytes) -> list[str]:
    output = Output()
    return [line for chunk in chunks for line in output.feed(chunk)] + output.finish()


def test_a_line_has_its_end_or_is_the_last() -> None:
    assert lines_of(b"one\ntwo\n\nthr", b"ee") == ["one", "two", "", "three"]


def test_a_line_that_is_written_again_is_shown_as_a_terminal_shows_it() -> None:
    assert lines_of(b"10 %\r20 %\r", b"30 %\nnext\r\n") == ["30 %", "next"]


def test_a_line_without_an_end_is_held_back_only_so_far() -> None:
    assert [len(line) for line in lines_of(b"x" * 9001)] == [9001]
    cutter = Cutter()
    assert sum(len(line) for _ in range(100) for line in cutter.feed("x" * 100)) > 10_000 - MAX_HELD - 100


def test_a_line_of_the_log_may_come_in_the_middle_of_a_printed_one() -> None:
    assert lines_of(b"prin" + marked("logged") + b"ted\n") == ["logged", "printed"]


def test_marks_that_a_task_writes_itself_lose_nothing() -> None:
    assert lines_of(b"\x1e\x02" + b"x" * 20_000 + b"\nend\n")[-1] == "end"
    assert lines_of(b"a\x1e", b"b\n") == ["a\x1eb"]
    assert lines_of(b"a\x1e\x02b") == ["a\x1e\x02b"]


@given(st.lists(st.text(st.characters(exclude_characters="\n\r\x1e\x02\x03", exclude_categories=["Cs"]))), st.data())
def test_it_does_not_matter_in_which_pieces_output_comes(texts: list[str], data: st.DataObject) -> None:
    whole = b"".join(marked(text) if i % 2 else f"{text}\n".encode() for i, text in enumerate(texts))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)))))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert lines_of(*pieces) == lines_of(whole) == texts
