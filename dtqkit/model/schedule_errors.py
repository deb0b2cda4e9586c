"""What is wrong with a schedule: its expression, its zone, its other fields, its name."""

from __future__ import annotations

from dtqkit.model.errors import DtqError


class InvalidSchedule(DtqError, ValueError):
    """A field of a schedule has a value that it cannot have; `field` names it."""

    code = "invalid_schedule"
    field: str = ""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail)
        self.field = field


class InvalidCron(InvalidSchedule):
    """A cron expression that cannot be read, or that no time matches."""

    code = "invalid_cron"


class UnknownZone(InvalidSchedule):
    """A time zone that the zone database does not have."""

    code = "unknown_zone"


class ScheduleNotFound(DtqError, LookupError):
    """No schedule has this name."""

    code = "schedule_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no schedule {name!r}; `dtqkit schedules` lists those that there are")


class ScheduleUnreadable(DtqError, ValueError):
    """The record of a schedule cannot be read: a newer version wrote it, or somebody changed it by hand."""

    code = "schedule_unreadable"
    name: str = ""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(
            f"schedule {name!r} cannot be read by this version of dtqkit: {detail}. Use the version that made it, or "
            f"remove it with `dtqkit schedules remove {name}` and make it again"
        )
        self.name = name


class ScheduleTaken(DtqError, ValueError):
    """Another app, or another task, has a schedule of this name."""

    code = "schedule_taken"
