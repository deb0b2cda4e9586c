"""What a task sets for its jobs, and what one call sets instead.

An option has one field here, with its bounds in its type: from that come the check of a call in Python, of a request
over HTTP, and the OpenAPI document. A new one also needs a name in `OptionNames` or `TaskOptionNames`, and a field in
`Job` if it is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Final, Literal, TypeAlias, TypedDict, cast, get_args, get_type_hints

import msgspec
from msgspec import Meta
from msgspec import inspect as types
from msgspec.structs import fields, force_setattr

from dtqkit.model.errors import InvalidOption, TaskDefinitionError
from dtqkit.model.jobs import PRIORITIES, OnDuplicate, Priority, Shape, UniqueWhile
from dtqkit.model.values import shown
from dtqkit.tasks.following import Following, TaskName, name_of_follower
from dtqkit.tasks.retrying import Delays, Exceptions, Names, backoff_of, check_rules, names_of
from dtqkit.tasks.unique import Arguments, by_of, check_unique

Isolation: TypeAlias = Literal["auto", "process", "thread"]
ISOLATIONS: Final[tuple[Isolation, ...]] = get_args(Isolation)

Attempts = Annotated[int, Meta(ge=1, le=100)]
#: Seconds.
Timeout = Annotated[float, Meta(gt=0, le=86_400)]
Expires = Annotated[float, Meta(gt=0, le=366 * 86_400)]
Backoff = Annotated[float, Meta(ge=0, le=86_400)]
Delay = Annotated[float, Meta(ge=0, le=366 * 86_400)]
Moment = Annotated[datetime, Meta(tz=True)]
Wait = Annotated[float, Meta(ge=0, le=60)]
Window = Annotated[float, Meta(gt=0, le=366 * 86_400)]
Debounce = Annotated[float, Meta(gt=0, le=86_400)]
Key = Annotated[str, Meta(min_length=1, max_length=200)]
Tag = Annotated[str, Meta(min_length=1, max_length=100)]
Tags = Annotated[tuple[Tag, ...], Meta(max_length=20)]


class TaskOptions(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True):
    """How a task's jobs run, by default."""

    priority: Priority = "medium"
    #: Attempts that may fail before the job does.
    max_attempts: Attempts = 3
    #: Seconds that one attempt may run.
    timeout_s: Timeout = 300.0
    #: Seconds from its submission within which a job must start; later it is cancelled, as expired. None: any time.
    expires_s: Expires | None = None
    #: Exception classes, by name: only these are tried again; and those that never are. The nearest class decides.
    retry_on: Names = ()
    give_up_on: Names = ()
    #: How the retry delay grows: `exponential` doubles it with each failure, and draws it with full jitter; `linear`
    #: adds its base each time; `fixed` is its base; or the delays in seconds themselves, the last one for all further.
    backoff: Shape | Delays = "exponential"
    #: Base and ceiling of the retry delay.
    backoff_s: Backoff = 1.0
    backoff_max_s: Backoff = 600.0
    #: Of a `def`: `auto` is a child process where the function can be imported, else a thread. An `async def`
    #: runs on the worker's loop.
    isolation: Isolation = "auto"
    #: Attempts that may lose their worker before the job fails.
    max_losses: Attempts = 3
    #: Tasks that are submitted once a job has failed for good, or has completed: they get a JobEnd.
    on_failure: TaskName | None = None
    on_success: TaskName | None = None
    #: See `JobOptions`.
    unique: UniqueWhile | None = None
    unique_for_s: Window | None = None
    unique_key: Key | None = None
    unique_by: Arguments | None = None
    on_duplicate: OnDuplicate | None = None
    debounce_s: Debounce | None = None
    debounce_max_s: Window | None = None

    def __post_init__(self) -> None:
        try:
            for rule in ("retry_on", "give_up_on"):
                if (kinds := getattr(self, rule)) != ():
                    force_setattr(self, rule, names_of(rule, kinds))
            check_rules(self.retry_on, self.give_up_on)
            force_setattr(self, "backoff", backoff_of(self.backoff))
            name_followers(self)
            take_names(self)
            check(self)
            check_unique(self)
            check_expiry(self.expires_s, self.debounce_s or 0.0)
        except InvalidOption as error:
            raise TaskDefinitionError(str(error)) from None


class JobOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """What one call sets for its jobs; None leaves it to the task."""

    priority: Priority | None = None
    #: Seconds before it may start.
    delay_s: Delay = 0.0
    #: Not before this time, which has a time zone; not together with `delay_s`.
    starts_at: Moment | None = None
    max_attempts: Attempts | None = None
    #: Seconds that one attempt may run.
    timeout_s: Timeout | None = None
    #: Seconds from its submission within which it must start; later it is cancelled, as expired.
    expires_s: Expires | None = None
    #: How the retry delay grows, with its base and its ceiling; or the delays themselves.
    backoff: Shape | Delays | None = None
    backoff_s: Backoff | None = None
    backoff_max_s: Backoff | None = None
    #: The same key with the same payload gives the first job again.
    idempotency_key: Key | None = None
    tags: Tags = ()
    #: Tasks that are submitted once the job has failed for good, or has completed: they get a JobEnd.
    on_failure: TaskName | None = None
    on_success: TaskName | None = None
    #: One job of a key at a time: until it starts, until it is over, or one in `unique_for_s` seconds.
    unique: UniqueWhile | None = None
    unique_for_s: Window | None = None
    #: Which jobs of the task are the same; None: those with the same payload.
    unique_key: Key | None = None
    #: Or those in whose payload these arguments are the same.
    unique_by: Arguments | None = None
    #: What a submit does that finds such a job; None: return it.
    on_duplicate: OnDuplicate | None = None
    #: Each submit replaces the job that waits, which starts so many seconds after the last submit, and
    #: `debounce_max_s` after the first one at the latest.
    debounce_s: Debounce | None = None
    debounce_max_s: Window | None = None
    #: Seconds for which a submit is retried while MongoDB does not accept it; None: DTQ_SUBMIT_WAIT_S.
    wait_s: Wait | None = None


class CallOptions(JobOptions, frozen=True, kw_only=True, gc=False):
    """The same, checked when it is made. Raises InvalidOption, which names the option and what it may be.

    >>> CallOptions(priority="low", delay_s=30).delay_s
    30
    """

    def __post_init__(self) -> None:
        name_followers(self)
        take_names(self)
        if self.backoff is not None:
            force_setattr(self, "backoff", backoff_of(self.backoff))
        check(self)
        check_start(self)


def check_expiry(expires_s: float | None, delay_s: float) -> None:
    """Raises InvalidOption for a job that would always expire."""
    if expires_s is not None and delay_s >= expires_s:
        raise InvalidOption(
            f"expires_s is {expires_s:.15g} and the job is delayed by {delay_s:.15g} s: it would always expire, since "
            "expires_s counts from the submission; make it longer than the delay"
        )


class OptionNames(TypedDict, total=False):
    """The options of a call, for type checkers."""

    priority: Priority | None
    delay_s: float
    starts_at: datetime | None
    max_attempts: int | None
    timeout_s: float | None
    expires_s: float | None
    backoff: Shape | Sequence[float] | None
    backoff_s: float | None
    backoff_max_s: float | None
    idempotency_key: str | None
    tags: Iterable[str]
    on_failure: Following | None
    on_success: Following | None
    unique: UniqueWhile | None
    unique_for_s: float | None
    unique_key: str | None
    unique_by: Sequence[str] | None
    on_duplicate: OnDuplicate | None
    debounce_s: float | None
    debounce_max_s: float | None
    wait_s: float | None


class TaskOptionNames(TypedDict, total=False):
    """The options of a task, for type checkers; None means the same as leaving it out."""

    priority: Priority | None
    max_attempts: int | None
    timeout_s: float | None
    expires_s: float | None
    retry_on: Exceptions | None
    give_up_on: Exceptions | None
    backoff: Shape | Sequence[float] | None
    backoff_s: float | None
    backoff_max_s: float | None
    max_losses: int | None
    on_failure: Following | None
    on_success: Following | None
    isolation: Isolation | None
    unique: UniqueWhile | None
    unique_for_s: float | None
    unique_key: str | None
    unique_by: Sequence[str] | None
    on_duplicate: OnDuplicate | None
    debounce_s: float | None
    debounce_max_s: float | None


#: By `dtqkit.tasks.retrying`.
_CHECKED_APART: Final = frozenset({"retry_on", "give_up_on", "backoff"})


def options_of(name: str, options: Mapping[str, Any]) -> TaskOptions:
    """The options that were given to task `name`, None meaning not given. TaskDefinitionError, naming the option."""
    given = {key: value for key, value in options.items() if value is not None}
    if unknown := given.keys() - set(TaskOptions.__struct_fields__):
        raise TaskDefinitionError(f"{name}: there is no option {unknown_option(unknown, TaskOptions)}")
    try:
        for rule in given.keys() & {"retry_on", "give_up_on"}:
            given[rule] = names_of(rule, given[rule], published=False)
        made = TaskOptions(**given)
        for hook in ("on_failure", "on_success"):
            _check_not_itself(name, hook, getattr(made, hook))
    except (TaskDefinitionError, InvalidOption) as error:
        raise TaskDefinitionError(f"{name}: {error}") from None
    if isinstance(made.backoff, tuple) and (idle := given.keys() & {"backoff_s", "backoff_max_s"}):
        raise TaskDefinitionError(f"{name}: {min(idle)} has no effect beside a tuple of delays: leave one of them out")
    return made


#: Options of Celery, and what to write here.
_ELSEWHERE: Final = {
    "autoretry_for": "retry_on=(E,) of the task",
    "bind": "a first parameter `ctx: Context`",
    "countdown": "delay_s=",
    "dont_autoretry_for": "give_up_on=(E,) of the task",
    "eta": "starts_at=, a datetime with a time zone",
    "expires": "expires_s=, in seconds",
    "link": "on_success=",
    "link_error": "on_failure=",
    "max_retries": "max_attempts=, which counts the first attempt too",
    "queue": "priority='high', 'medium' or 'low'",
    "rate_limit": "unique='window' for one job of a key in a time; a task as a whole has no limit",
    "retry_backoff": "backoff='exponential' with backoff_s=",
    "retry_backoff_max": "backoff_max_s=",
    "default_retry_delay": "backoff='fixed' with backoff_s=",
    "retry_jitter": "backoff='exponential', which is drawn at random",
    "soft_time_limit": "timeout_s=",
    "task_id": "idempotency_key=",
    "throws": "give_up_on=(E,) of the task",
    "time_limit": "timeout_s=",
}


def unknown_option(unknown: Iterable[str], kind: type[msgspec.Struct]) -> str:
    """`'countdown'; here that is delay_s=; there are …`: the end of an error."""
    name = min(unknown)
    here = f"; here that is {_ELSEWHERE[name]}" if name in _ELSEWHERE else ""
    if name in TaskOptions.__struct_fields__:
        here = "; it is an option of the task, as in @queue.task(…)"
    elif name in CallOptions.__struct_fields__:
        here = "; it is an option of a call, as in task.options(…)"
    return f"{name[:60]!r}{here}; there are {', '.join(kind.__struct_fields__)}"


def _check_not_itself(name: str, hook: str, follower: str | None) -> None:
    if follower == name:
        raise InvalidOption(f"{hook} is the task itself, which would follow on itself forever: name another one")


def check(options: msgspec.Struct) -> None:
    """Raises InvalidOption for the first field whose value does not fit its type and bounds."""
    for field, (kind, info, default) in _fields(type(options)).items():
        value: Any = getattr(options, field)
        if value is default or field in _CHECKED_APART:
            continue
        if not _fits(value, kind, info):
            raise InvalidOption(_misfit(field, value, info))
        if isinstance(value, str):
            _check_text(field, value)
        elif isinstance(value, tuple):
            for at, item in enumerate(cast("tuple[object, ...]", value)):
                _check_text(f"{field}[{at}]", item)


def _check_text(field: str, text: object) -> None:
    """Raises InvalidOption for a text that MongoDB cannot hold."""
    if isinstance(text, str):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidOption(
                f"{field} is {shown(text)}: it has a lone surrogate; use text that UTF-8 can encode"
            ) from None


def name_followers(options: TaskOptions | JobOptions) -> None:
    """Put the names of tasks in the place of tasks. Raises InvalidOption."""
    for hook in ("on_failure", "on_success"):
        if (given := getattr(options, hook)) is not None:
            force_setattr(options, hook, name_of_follower(hook, given))


def take_names(options: TaskOptions | JobOptions) -> None:
    """Make `unique_by` a tuple. Raises InvalidOption."""
    if options.unique_by is not None:
        force_setattr(options, "unique_by", by_of(options.unique_by))


def check_start(options: JobOptions) -> None:
    """Raises InvalidOption when two times of its start are given."""
    if options.starts_at is not None and options.delay_s:
        raise InvalidOption("starts_at is given beside delay_s: leave one of them out")


def _fits(value: Any, kind: Any, info: types.Type) -> bool:
    if isinstance(info, types.IntType) and type(value) is not int:  # 2.0 would do for msgspec, and a list as a tuple
        return False
    if isinstance(info, types.DateTimeType) and not isinstance(value, datetime):  # a text would do
        return False
    if isinstance(info, types.VarTupleType) and type(value) is not tuple:
        return False
    if isinstance(info, types.FloatType) and (isinstance(value, bool) or not isinstance(value, int | float)):
        return False  # a Decimal would do, too
    try:
        msgspec.convert(float(value) if isinstance(value, float) else value, kind)  # a float of numpy is one
    except msgspec.ValidationError:
        return False
    return True


@cache
def _fields(kind: type[msgspec.Struct]) -> dict[str, tuple[Any, types.Type, Any]]:
    """Of each field its type, what there is to know of that apart from None, and its default."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: (hints[field.name], _info(hints[field.name]), field.default) for field in fields(kind)}


def _info(kind: Any) -> types.Type:
    info = types.type_info(kind)
    if isinstance(info, types.UnionType):
        return next(one for one in info.types if not isinstance(one, types.NoneType))
    return info


def _misfit(field: str, value: Any, kind: types.Type) -> str:
    if isinstance(kind, types.VarTupleType) and isinstance(value, tuple):
        items = cast("tuple[object, ...]", value)
        if len(items) <= (kind.max_length or 0):
            at, wrong = next((i, item) for i, item in enumerate(items) if not _is_text(item, kind.item_type))
            return f"{field}[{at}] is {shown(wrong)}; it is {_wanted(kind.item_type)}"
    if isinstance(value, datetime):
        return (
            f"{field} is {value.isoformat(sep=' ')}, without a time zone; give it one: tzinfo=ZoneInfo('Asia/Tokyo'), "
            "or .astimezone() for the zone of this machine"
        )
    return f"{field} is {shown(cast(object, value))}; it is {_wanted(kind)}"


def _is_text(value: object, kind: types.Type) -> bool:
    bounds = cast("types.StrType", kind)
    return isinstance(value, str) and (bounds.min_length or 0) <= len(value) <= (bounds.max_length or 0)


def _wanted(kind: types.Type) -> str:
    """What may stand there, for an error."""
    match kind:
        case types.LiteralType():
            known = PRIORITIES if set(kind.values) == set(PRIORITIES) else kind.values  # in the order of lanes
            return f"one of {', '.join(map(str, known))}"
        case types.IntType():
            return f"an int from {kind.ge} to {kind.le}"
        case types.FloatType():
            least = "0" if kind.gt is None else "more than 0"
            return f"a number of seconds, from {least} to {kind.le:,.0f}"
        case types.StrType():
            return f"a text of {kind.min_length} to {kind.max_length} characters"
        case types.DateTimeType():
            return "a datetime with a time zone"
        case types.VarTupleType():
            return f"a tuple of at most {kind.max_length}, each {_wanted(kind.item_type)}"
        case _:
            raise TypeError(f"options have no fields of type {kind}")
