"""Redis may hold anything: what is not an event is no event."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dtqkit.model.events import Batch, JobEvent, ProgressEvent, decode_batch, encode_batch

events = st.builds(
    JobEvent,
    id=st.text(max_size=24),
    rev=st.integers(0, 1000),
    status=st.sampled_from(["pending", "running", "completed"]),
    task=st.text(max_size=20),
    priority=st.sampled_from(["high", "low"]),
    worker=st.none() | st.text(max_size=20),
)
progress = st.builds(
    ProgressEvent, id=st.text(max_size=24), claim_number=st.integers(0, 9), log=st.tuples(st.text(max_size=9))
)


@given(st.lists(events, max_size=5), st.lists(progress, max_size=5))
def test_a_batch_comes_back_as_it_went(jobs: list[JobEvent], news: list[ProgressEvent]) -> None:
    batch = decode_batch(encode_batch(jobs, news))
    assert (list(batch.jobs), list(batch.progress)) == (jobs, news)


@given(st.binary(max_size=200))
def test_anything_else_is_an_empty_batch(data: bytes) -> None:
    assert isinstance(decode_batch(data), Batch)
