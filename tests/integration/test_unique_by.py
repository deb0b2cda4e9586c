"""Jobs that are the same when certain arguments are: `unique_by`."""

from __future__ import annotations

from typing import Any

import pytest

from dtqkit import InvalidOption, JobConflict, Settings, TaskDefinitionError, TaskQueue
from dtqkit.control import Submission
from dtqkit.control.operations import SUBMIT
from dtqkit.model.schedule_errors import InvalidSchedule
from tests import sample
from tests.command import dtqkit

APP = "tests.sample:queue"


def test_jobs_with_the_same_arguments_are_the_same_whatever_the_others_are(queue: TaskQueue) -> None:
    @queue.task(unique="active", unique_by=("user", "region"))
    async def sync(user: int, region: str = "eu", text: str = "", more: dict[str, int] | None = None) -> None: ...

    first = sync.submit(7, text="a")
    assert sync.submit(7, text="b", more={"a.b": 1}).id == first.id
    assert sync.submit(8).id != first.id
    assert sync.submit(7, region="eu").id != first.id, "an argument that is left out is another value than its default"
    by_user = sync.options(unique_by=["user"])
    assert by_user.submit(7).id != first.id, "another key, of other arguments"
    assert by_user.submit(7, region="us").id == by_user.submit(7, region="eu").id
    assert sync.options(unique_key="mine").submit(7).id != first.id, "that of the call stands instead of the task's"
    assert sync.options(unique_by=("region", "user")).submit(7).id == first.id, "in whatever order they are named"
    assert (first.record.unique_key or "").startswith("by:region,user:")


def test_a_throttle_and_a_debounce_are_of_arguments(queue: TaskQueue) -> None:
    hourly = sample.add.options(unique="window", unique_for_s=3600, unique_by=("a",))
    assert hourly.submit(1, 2).id == hourly.submit(1, 3).id
    assert hourly.submit(2, 2).id != hourly.submit(1, 3).id
    calm = sample.add.options(debounce_s=60, unique_by=("a",))
    first, second = calm.submit(5, 1), calm.submit(5, 2)
    assert (second.id, second.was_duplicate, second.record.payload) == (first.id, True, {"a": 5, "b": 2})
    assert [job.was_duplicate for job in calm.map([6, 6], b=9)] == [False, True]


def test_a_job_may_get_another_payload_while_these_arguments_stay(queue: TaskQueue) -> None:
    job = sample.add.options(unique="active", unique_by=("a",)).submit(1, 2)
    job.update(payload={"a": 1, "b": 3})
    assert job.record.payload == {"a": 1, "b": 3}
    with pytest.raises(JobConflict, match="its unique key is made of its arguments a, which therefore cannot"):
        job.update(payload={"a": 2})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"unique_by": ("c",)}, "unique_by names 'c', which task '.*' does not have; it has a, b"),
        ({"unique_by": ("a",), "unique_key": "k"}, "both say which jobs are the same; leave one of them out"),
        ({"unique_by": "a"}, r"unique_by is 'a'; it is a tuple of parameters, as in unique_by=\('a',\)"),
        ({"unique_by": 7}, "unique_by is 7; it is a tuple of parameters"),
        ({"unique_by": ()}, r"unique_by is \(\): it names at least one parameter"),
        ({"unique_by": ("a", "a")}, "names 'a' twice"),
        ({"unique_by": ("a", 7)}, r"unique_by\[1\] is 7"),
        ({"unique_by": tuple(f"p{i}" for i in range(21))}, "a tuple of at most 20"),
        ({"unique_by": ("a",), "unique": None}, "unique is missing: add unique="),
    ],
)
def test_what_unique_by_cannot_be_is_refused_where_it_is_given(
    queue: TaskQueue, given: dict[str, Any], message: str
) -> None:
    options: dict[str, Any] = {"unique": "active", **given}
    with pytest.raises(InvalidOption, match=message):
        sample.add.options(**options)
    with pytest.raises(TaskDefinitionError, match=f"other: .*{message}"):

        @queue.task(name="other", **options)
        def other(a: int, b: int = 1) -> None: ...


def test_names_are_checked_against_the_schema_where_the_code_is_elsewhere(queue: TaskQueue) -> None:
    wrong = Submission(task="add", payload={"a": 1}, unique="active", unique_by=("c",))
    with pytest.raises(InvalidOption, match="unique_by names 'c', which task 'add' does not have; it has a, b"):
        queue.run(queue.core.control.ask(SUBMIT, wrong))
    with pytest.raises(InvalidSchedule, match="cannot have the option unique"):
        queue.schedule("s", sample.add.options(unique="active", unique_by=("a",)).bind(1), every_s=60)


def test_the_command_line_says_what_happened_to_each_kind_of_duplicate(settings: Settings) -> None:
    for options, said in (
        (("--unique", "active", "--unique-by", "a"), "duplicate, no new job: {job} has the unique key 'by:a:"),
        (("--unique", "window", "--unique-for", "600", "--unique-key", "w"), "throttled, no new job: {job} has the"),
        (
            ("--unique", "waiting", "--on-duplicate", "replace", "--unique-key", "r"),
            "replaced, no new job: {job}, which waits, has these arguments and options now",
        ),
        (
            ("--debounce", "60", "--unique-key", "d", "--debounce-max", "600"),
            "debounced, no new job: {job} has these arguments now, and starts at",
        ),
    ):
        first = dtqkit("submit", APP, "add", "a=1", *options, settings=settings)
        again = dtqkit("submit", APP, "add", "a=1", "b=2", *options, settings=settings)
        assert (again.stdout, first.stderr) == (first.stdout, "")
        assert said.format(job=first.stdout.strip()) in again.stderr
    wrong = dtqkit("submit", APP, "add", "a=1", "--unique", "active", "--unique-by", "c", settings=settings)
    assert (wrong.returncode, "names 'c', which task 'add' does not have" in wrong.stderr) == (2, True)
    assert "'--unique-by'" in wrong.stderr
