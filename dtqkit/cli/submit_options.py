"""The options of `dtqkit submit`."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from dtqkit.model.jobs import OnDuplicate, Priority, UniqueWhile

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds(text: object) -> float:
    """The option of a time: `600`, or `10m`. What a call refuses, such as inf, is left to that."""
    text = str(text).strip()
    number, unit = (text[:-1], _UNITS[text[-1]]) if text[-1:] in _UNITS else (text, 1)
    try:
        return float(number) * unit
    except ValueError:
        raise typer.BadParameter(
            f"{text[:80]!r} is no time; it is a number of seconds, or 90s, 10m, 2h or 1d"
        ) from None


TaskName = Annotated[str, typer.Argument(metavar="TASK", help="The task's name.")]
Arguments = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="The task's arguments. A value that is not JSON is taken as text."),
]
Payload = Annotated[str | None, typer.Option(metavar="JSON", help="All arguments, as a JSON object.")]
Lane = Annotated[Priority | None, typer.Option(help="The lane.  [default: the task's]")]
Delay = Annotated[
    float,
    typer.Option(
        parser=seconds, metavar="SECONDS", help="Start the job after this time at the earliest: 600, or 10m, 2h, 1d."
    ),
]
Attempts = Annotated[
    int | None,
    typer.Option(metavar="N", help="Failed attempts after which the job is a dead letter.  [default: the task's]"),
]
Timeout = Annotated[
    float | None,
    typer.Option(parser=seconds, metavar="SECONDS", help="How long one attempt may run.  [default: the task's]"),
]
Expires = Annotated[
    float | None,
    typer.Option(
        parser=seconds, metavar="SECONDS", help="Cancel the job if it has not started by then.  [default: the task's]"
    ),
]
Backoff = Annotated[
    str | None,
    typer.Option(
        metavar="SHAPE", help="How the retry delay grows: exponential, linear, fixed; or the delays, as 1,5,60."
    ),
]
BackoffBase = Annotated[
    float | None, typer.Option(parser=seconds, metavar="SECONDS", help="The base of the retry delay.")
]
BackoffMax = Annotated[float | None, typer.Option(parser=seconds, metavar="SECONDS", help="The longest retry delay.")]
Key = Annotated[
    str | None, typer.Option(metavar="KEY", help="Idempotency key: a second submit with it returns the first job.")
]
Tags = Annotated[list[str] | None, typer.Option(metavar="TAG", help="A tag to find the job by. Can be repeated.")]
Unique = Annotated[
    UniqueWhile | None,
    typer.Option(help="Only one such job while it waits, while it is active, or in a window.  [default: the task's]"),
]
UniqueFor = Annotated[
    float | None, typer.Option(parser=seconds, metavar="SECONDS", help="How long the window of --unique window is.")
]
UniqueKey = Annotated[
    str | None,
    typer.Option(metavar="KEY", help="Which jobs are the same.  [default: those with the same arguments]"),
]
UniqueBy = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Jobs with the same value of this argument are the same. Can be repeated."),
]
Duplicate = Annotated[
    OnDuplicate | None,
    typer.Option(help="What to do with a duplicate: print the job that is there, fail, or replace its arguments."),
]
Debounce = Annotated[
    float | None,
    typer.Option(
        parser=seconds, metavar="SECONDS", help="Replace the job that waits; it starts this long after the last submit."
    ),
]
DebounceMax = Annotated[
    float | None,
    typer.Option(parser=seconds, metavar="SECONDS", help="And this long after the first submit at the latest."),
]
WaitTimeout = Annotated[
    float | None,
    typer.Option(
        parser=seconds, metavar="SECONDS", help="Wait at most so long: 600, or 10m.  [default: until the job is over]"
    ),
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for the job, and print its result as JSON.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the job as JSON.")]
OnFailure = Annotated[
    str | None, typer.Option(metavar="TASK", help="A task to submit once the job has failed for good.")
]
OnSuccess = Annotated[str | None, typer.Option(metavar="TASK", help="A task to submit once the job has completed.")]
At = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Start the job at this time at the earliest, as in 2026-12-31T23:30+01:00."),
]
