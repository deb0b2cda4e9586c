"""The times of cron expressions: a year in 24 zones against a reference that looks at every minute."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from hypothesis import given
from hypothesis import strategies as st

from dtqkit import InvalidCron, UnknownZone
from dtqkit.model.timing import Every, cron

#: Both hemispheres, every kind of offset, changes by half an hour (Lord Howe), at midnight (Havana, Beirut, Cairo) and
#: twice a year more (Casablanca), and some that never change.
ZONES = (
    *("UTC", "Europe/Berlin", "Europe/London", "Europe/Dublin", "Europe/Moscow", "Africa/Casablanca", "Africa/Cairo"),
    *("America/New_York", "America/Los_Angeles", "America/St_Johns", "America/Santiago", "America/Havana"),
    *("America/Sao_Paulo", "America/Nuuk", "Asia/Beirut", "Asia/Jerusalem", "Asia/Kathmandu", "Asia/Kolkata"),
    *("Asia/Tokyo", "Australia/Lord_Howe", "Australia/Adelaide", "Pacific/Auckland", "Pacific/Chatham"),
    "Pacific/Kiritimati",
)
EXPRESSIONS = (
    "30 2 * * *",
    "0 3 * * 1-5",
    "15,45 0-3 * * *",
    "0 0 * * *",
    "0 * * * *",
    "*/20 * * * *",
    "*/10 2 * * *",
    "*/15 0 * * 0",
    "7 */2 * * *",
    "0 12 1 * *",
    "30 1 13 * 5",
    "0 9 L * *",
)
YEAR = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def numbers(field: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        begin, end = (low, high) if span == "*" else (int(first), int(last or first))
        found |= set(range(begin, end + 1, int(step or 1)))
    return found


class Matcher:
    """An expression, matched against the clock on the wall by nothing but sets."""

    def __init__(self, expression: str) -> None:
        minute, hour, day, month, weekday = expression.split()
        self.fixed = minute[0] != "*" and hour[0] != "*"
        self.minutes, self.hours, self.months = numbers(minute, 0, 59), numbers(hour, 0, 23), numbers(month, 1, 12)
        self.last = day == "L"
        self.days = set() if self.last else numbers(day, 1, 31)
        self.weekdays = {n % 7 for n in numbers(weekday, 0, 7)}
        self.both = day[0] == "*" or weekday[0] == "*"

    def __call__(self, wall: datetime) -> bool:
        if wall.minute not in self.minutes or wall.hour not in self.hours or wall.month not in self.months:
            return False
        day = (wall + timedelta(days=1)).day == 1 if self.last else wall.day in self.days
        weekday = wall.isoweekday() % 7 in self.weekdays
        return day and weekday if self.both else day or weekday


class Look(NamedTuple):
    """One minute: what the clock on the wall shows, what it has skipped just before, and the highest that it showed."""

    now: datetime
    wall: datetime
    skipped: list[datetime]
    highest: datetime


def looks(zone: ZoneInfo, begin: datetime, end: datetime) -> Iterator[Look]:
    before = (begin - MINUTE).astimezone(zone).replace(tzinfo=None, fold=0)
    highest = before
    now = begin
    while now < end:
        wall = now.astimezone(zone).replace(tzinfo=None, fold=0)
        yield Look(now, wall, [before + n * MINUTE for n in range(1, (wall - before) // MINUTE)], highest)
        before, highest = wall, max(highest, wall)
        now += MINUTE


def reference(expression: str, seen: list[Look]) -> list[datetime]:
    """Debian's rules: a fixed time once, at the end of a gap, and not when it comes again; all else by the clock."""
    matches = Matcher(expression)
    if not matches.fixed:
        return [one.now for one in seen if matches(one.wall)]
    return [
        one.now
        for one in seen
        if (one.wall > one.highest and matches(one.wall)) or any(s > one.highest and matches(s) for s in one.skipped)
    ]


def times(expression: str, zone: str, begin: datetime, end: datetime) -> list[datetime]:
    timing, found = cron(expression, zone), list[datetime]()
    at = timing.after(begin - timedelta(seconds=1))
    while at is not None and at < end:
        found.append(at)
        at = timing.after(at)
    return found


def changes(zone: ZoneInfo) -> list[datetime]:
    """The hours of the year after which the clock of this zone is another one."""
    hours = [YEAR + timedelta(hours=n) for n in range(365 * 24)]
    return [
        at for at in hours if at.astimezone(zone).utcoffset() != (at + timedelta(hours=1)).astimezone(zone).utcoffset()
    ]


@pytest.mark.parametrize("zone", ZONES)
def test_the_days_around_each_change_of_the_clock_are_as_debians_cron_has_them(zone: str) -> None:
    tz = ZoneInfo(zone)
    for change in changes(tz) or [YEAR]:
        begin, end = change - timedelta(hours=27), change + timedelta(hours=27)
        seen = list(looks(tz, begin, end))
        for expression in EXPRESSIONS:
            assert times(expression, zone, begin, end) == reference(expression, seen), expression


@pytest.mark.parametrize("zone", ZONES)
def test_a_year_is_what_croniter_has_away_from_changes_of_the_clock(zone: str) -> None:
    """croniter reads a fixed time that the clock skips or shows twice differently: those days are left to the above."""
    tz = ZoneInfo(zone)
    odd = {(at + timedelta(days=n)).date() for at in changes(tz) for n in (-1, 0, 1)}
    for expression in (*EXPRESSIONS[:2], *EXPRESSIONS[9:]):
        theirs = croniter(expression, YEAR.astimezone(tz), day_or=not Matcher(expression).both)
        found: list[datetime] = []
        while (at := theirs.get_next(datetime).astimezone(UTC)) < YEAR + timedelta(days=365):
            found.append(at)
        ours = times(expression, zone, YEAR + timedelta(seconds=1), YEAR + timedelta(days=365))
        assert [at for at in ours if at.date() not in odd] == [at for at in found if at.date() not in odd], expression


@given(st.sampled_from(ZONES), st.sampled_from(EXPRESSIONS), st.integers(0, 365 * 86_400))
def test_a_time_follows_from_any_moment_before_it(zone: str, expression: str, second: int) -> None:
    """Asked from in between, the next time is the same as from the one before: where one begins does not matter."""
    timing = cron(expression, zone)
    moment = YEAR + timedelta(seconds=second)
    at = timing.after(moment)
    assert at is not None
    assert at > moment
    assert timing.after(moment + (at - moment) / 2) == at
    assert timing.after(at - timedelta(microseconds=1)) == at


def test_both_nights_in_berlin() -> None:
    """As docs/schedules.md has them."""
    spring, autumn = datetime(2026, 3, 28, 23, tzinfo=UTC), datetime(2026, 10, 24, 22, tzinfo=UTC)

    def shown(expression: str, night: datetime) -> list[str]:
        found = times(expression, "Europe/Berlin", night, night + timedelta(hours=5))
        return [f"{at.astimezone(ZoneInfo('Europe/Berlin')):%H:%M%z}" for at in found]

    assert shown("30 2 * * *", spring) == ["03:00+0200"]
    assert shown("30 2 * * *", autumn) == ["02:30+0200"]
    assert shown("30 * * * *", spring) == ["00:30+0100", "01:30+0100", "03:30+0200", "04:30+0200", "05:30+0200"]
    assert shown("30 * * * *", autumn) == ["00:30+0200", "01:30+0200", "02:30+0200", "02:30+0100", "03:30+0100"]


def test_an_interval_counts_from_its_anchor() -> None:
    anchor = YEAR + timedelta(milliseconds=250)
    every = Every(10, anchor)
    assert every.after(anchor) == anchor + timedelta(seconds=10)
    assert every.after(anchor + timedelta(seconds=9.999)) == anchor + timedelta(seconds=10)
    assert every.after(anchor + timedelta(seconds=10)) == anchor + timedelta(seconds=20)
    assert every.after(anchor - timedelta(seconds=1)) == anchor


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ("61 * * * *", "the minute is '61'; it is 0 to 59"),
        ("* 24 * * *", "the hour is '24'"),
        ("* * 0 * *", "the day-of-month is '0'"),
        ("* * * 13 *", "the month is '13'"),
        ("* * * * mondays", "the day-of-week is 'mondays'"),
        ("0 0 30 2 *", "no date matches"),
        ("* * * *", "five fields"),
        ("* * * * * *", "every_s"),
        ("@daily", "five fields"),
        ("", "five fields"),
    ],
)
def test_a_wrong_expression_names_its_field(expression: str, named: str) -> None:
    with pytest.raises(InvalidCron, match=r"^cron") as error:
        cron(expression, "UTC")
    assert named in str(error.value)
    assert error.value.field == "cron"


@pytest.mark.parametrize("zone", ["Europe/Berln", "Europe", "", "../UTC", "/etc/passwd", "CEST!"])
def test_a_wrong_zone_is_named(zone: str) -> None:
    with pytest.raises(UnknownZone, match=r"^tz is") as error:
        cron("* * * * *", zone)
    assert error.value.field == "tz"


@given(st.text(alphabet="0123456789*/,-#LWMONDAYsun ", max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        cron(text, "UTC")
    except InvalidCron:
        pass
