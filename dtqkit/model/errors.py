"""Every error that dtqkit raises itself.

    DtqError
    ├── SettingsError            an environment variable or an argument of Settings
    ├── TaskDefinitionError      a function that cannot be a task
    ├── TaskAlreadyRegistered    two functions under one name
    ├── AppError                 an APP (`package.module:queue`) that cannot be loaded
    ├── UnknownTask              a name that no worker has published
    ├── InvalidOption            an option of a call: priority, delay, tags …
    ├── InvalidPayload           arguments that do not fit the task
    │   └── PayloadTooLarge
    ├── InvalidResult            a return value that cannot be recorded
    ├── InvalidQuery             a filter, limit or cursor of a listing
    ├── JobNotFound
    ├── JobFailed                raised by `result()`: the job is dead
    ├── JobCancelled             raised by `result()`
    ├── WaitTimeout              raised by `result(timeout=…)` and other waits: a job is not over in time
    ├── TaskTimeout              raised inside a task that has run for its `timeout_s`
    ├── BatchRefused             some jobs of a bulk were refused; the others are accepted
    │   ├── BatchUnavailable     … since a store is unreachable: a StoreUnavailable too
    │   └── BatchOutcomeUnknown  … or may have been accepted: an OutcomeUnknown too
    ├── JobConflict              the job's status does not allow the request
    │   └── IdempotencyConflict
    ├── StoreUnavailable         Redis or MongoDB cannot be reached, or refuses us
    │   ├── OutcomeUnknown       it may or may not have been written
    │   └── NamespaceTaken       another environment uses this Redis under the same DTQ_NAMESPACE
    ├── DocumentRefused          MongoDB does not take this job, whenever it is sent
    ├── AccessDenied             a server does not know the token
    │   ├── Forbidden            it does, and the token does not allow this
    │   └── TooManyAttempts      too many wrong tokens from one address
    ├── InvalidRequest           a server cannot read what it was sent
    ├── Refused                  a server refuses a request under a code that has no class here
    ├── ServerError              a server made a mistake
    ├── NotAServer               an address does not belong to a dtqkit server, or the server has moved
    ├── WrongLoop                an asynchronous object used from a loop that is not its own
    ├── QueueClosed              the queue was closed before this was done
    ├── NoWorkerCanStart         worker processes end as soon as they start
    ├── StartFailed              a server or workers did not start
    ├── CannotListen             a port that cannot be opened
    ├── LocalStoreError          a private redis-server or mongod that cannot be found or started
    ├── SimulationFailed         memory does not suffice for a simulation, or a process of it was killed
    └── MissingExtra             an optional part that is not installed

Those of a bulk: `batches.py`; of hooks: `hook_errors.py`; of processes that do not start or last: `starting.py`.
`code` is the stable, machine-readable name: the same over HTTP and in Python.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, Literal, TypeAlias, cast

from dtqkit.support.causes import original, users_frames
from dtqkit.support.sanitize import redact

#: Names that a message lists.
_FEW: Final = 5


class DtqError(Exception):
    """The base of all errors of dtqkit."""

    code: ClassVar[str] = "error"

    def __reduce__(self) -> tuple[Any, ...]:
        # Subclasses take other arguments than the message: a process pool could not send them.
        return unpickled, (type(self), self.args, vars(self))


class SettingsError(DtqError, ValueError):
    """A setting has a value that it cannot have; names the variable, the value and what is allowed."""

    code = "invalid_setting"


class TaskDefinitionError(DtqError, TypeError):
    """A function cannot be a task as it is written."""

    code = "invalid_task"


class TaskAlreadyRegistered(DtqError, ValueError):
    """Another function is registered under this name."""

    code = "task_exists"


class AppError(DtqError, ImportError):
    """An APP, `package.module:queue`, cannot be loaded."""

    code = "invalid_app"


class UnknownTask(DtqError, LookupError):
    """No task of this name is registered."""

    code = "unknown_task"
    task: str = ""
    near: tuple[str, ...] = ()

    def __init__(self, task: str, near: Sequence[str] = (), *, there: Sequence[str] = ()) -> None:
        """`near` are similar names; without any, the message lists a few of `there`, the registered names."""
        hint = ""
        if near:
            hint = f"; did you mean {' or '.join(repr(name) for name in near)}?"
        elif there:
            more = f" and {len(there) - _FEW} more" if len(there) > _FEW else ""
            hint = f"; there are {', '.join(there[:_FEW])}{more}"
        super().__init__(f"no task is registered as {task!r}{hint}")
        self.task = task
        self.near = tuple(near)


class InvalidOption(DtqError, ValueError):
    """An option of a call has a value that it cannot have; names the option, the value and what is allowed."""

    code = "invalid_option"


class InvalidPayload(DtqError, ValueError):
    """The arguments do not fit the task; `path` is the part that does not, as in `$.pages[3].width`."""

    code = "invalid_payload"
    task: str = ""
    path: str = "$"
    detail: str = ""

    def __init__(self, task: str, path: str, detail: str) -> None:
        super().__init__(f"{task}: {detail} (at {path})")
        self.task = task
        self.path = path
        self.detail = detail


class PayloadTooLarge(InvalidPayload):
    """The payload is larger than DTQ_MAX_PAYLOAD."""

    code = "payload_too_large"
    size_bytes: int = 0
    allowed_bytes: int = 0

    def __init__(self, task: str, size_bytes: int, allowed_bytes: int) -> None:
        super().__init__(
            task,
            "$",
            f"the payload has {size_bytes:,} bytes as JSON, and {allowed_bytes:,} are allowed "
            "(DTQ_MAX_PAYLOAD): keep large data in a file or a database and pass its address",
        )
        self.size_bytes = size_bytes
        self.allowed_bytes = allowed_bytes


class InvalidResult(DtqError, ValueError):
    """A task's return value cannot be recorded; `path` is the part that cannot."""

    code = "invalid_result"

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(f"the result cannot be recorded: {detail} (at {path})")
        self.path = path
        self.detail = detail


class InvalidQuery(DtqError, ValueError):
    """A filter, a limit or a cursor that a listing does not know."""

    code = "invalid_query"


class JobNotFound(DtqError, LookupError):
    """No job has this id."""

    code = "job_not_found"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"no job has the id {job_id!r}")
        self.job_id = job_id


class JobFailed(DtqError):
    """The job failed for good; `error_type`, `error_message` and `traceback` are its last attempt's.

    It reads as its cause does, with the frames of the task; `traceback` has them all. Its `__cause__` is the task's
    exception, when the class of that is imported here and can be made from its message.
    """

    code = "job_failed"

    def __init__(
        self,
        job_id: str,
        task: str,
        error_type: str,
        error_message: str,
        traceback: str = "",
        *,
        attempt: int | None = None,
        module: str = "",
    ) -> None:
        number = "" if attempt is None else f", attempt {attempt}"
        first, _, rest = error_message.strip().partition("\n")
        second = f"\n{_cut(rest.strip().partition(chr(10))[0])}" if rest.strip() else ""
        text = f"{error_type}: {_cut(first)} (job {job_id} {task}{number}){second}"
        super().__init__(f"{text}\n\n{users_frames(traceback)}" if traceback else text)
        self.job_id = job_id
        self.task = task
        self.error_type = error_type
        self.error_message = error_message
        self.traceback = traceback
        self.attempt = attempt
        self.module = module
        self.__cause__ = original(module, error_type, error_message)


def _cut(line: str, limit: int = 500) -> str:
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


class JobCancelled(DtqError):
    """The job was cancelled, so it has no result."""

    code = "job_cancelled"

    def __init__(self, job_id: str, task: str) -> None:
        super().__init__(f"job {job_id} ({task}) was cancelled")
        self.job_id = job_id
        self.task = task


class WaitTimeout(DtqError, TimeoutError):
    """A job was not over within the timeout; the message has its status. The job continues."""

    code = "wait_timeout"


class TaskTimeout(DtqError, TimeoutError):
    """Raised inside a task that has run for its `timeout_s`: a task that catches DtqError must raise it again."""

    code = "task_timeout"


class JobConflict(DtqError):
    """The job is in a state that does not allow this."""

    code = "conflict"


class IdempotencyConflict(JobConflict):
    """The idempotency key belongs to a job with another payload."""

    code = "idempotency_conflict"


#: Why a store refuses: it cannot be reached; its members elect a primary; it refuses for now; this user may not;
#: it is not set up as dtqkit needs it; it is too old. Only the last three require a change by a person.
Reason: TypeAlias = Literal["away", "electing", "refused", "not_allowed", "misconfigured", "unsupported"]
PASSING: Final[frozenset[Reason]] = frozenset({"away", "electing", "refused"})


class StoreUnavailable(DtqError, ConnectionError):
    """A store cannot be reached or refuses us; the message has the store, its address and the reason, no password."""

    code = "store_unavailable"
    store: str = ""
    reason: Reason = "away"
    #: What the store refused, as the end of a sentence that begins with its name. Without addresses: it may be public.
    brief: str = ""

    def __init__(self, store: str, where: str, detail: str, *, reason: Reason = "away") -> None:
        super().__init__(f"{store}{f' at {redact(where)}' if where else ''}: {redact(detail)}")
        self.store = store
        self.reason, self.brief = reason, ""

    @property
    def passes(self) -> bool:
        """Whether trying again may help without any change by a person."""
        return self.reason in PASSING


MAYBE: Final = " (the write may be done or not)"


class OutcomeUnknown(StoreUnavailable):
    """The connection was lost during a write: it may or may not be done; safe to repeat with an idempotency key."""

    code = "outcome_unknown"

    def __init__(self, store: str, where: str, detail: str, *, reason: Reason = "away") -> None:
        super().__init__(store, where, f"{detail}{MAYBE}", reason=reason)


class DocumentRefused(DtqError, ValueError):
    """MongoDB will never accept this document: it is too large, or a validator refuses it."""

    code = "document_refused"


class NamespaceTaken(StoreUnavailable):
    """Another environment's jobs are listed in this Redis under the same DTQ_NAMESPACE."""

    code = "namespace_taken"


class AccessDenied(DtqError, PermissionError):
    """A server does not know the token, or the token does not allow the request."""

    code = "unauthorized"


class Forbidden(AccessDenied):
    """The token is known and may not do this, or the request came by a way that is not allowed."""

    code = "forbidden"


class TooManyAttempts(AccessDenied):
    """Too many wrong tokens came from this address; its requests are refused for a while."""

    code = "too_many_attempts"


class InvalidRequest(DtqError, ValueError):
    """A server cannot read what it was sent."""

    code = "invalid_request"


class Refused(DtqError):
    """A server refuses a request under a code that has no class of its own; `code` is that."""

    code = "refused"

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code  # pyright: ignore[reportAttributeAccessIssue] - one class for codes that only HTTP knows


class ServerError(DtqError):
    """An internal error of a server; its log has it under the id of the request."""

    code = "internal_error"


class NotAServer(DtqError, ConnectionError):
    """This address does not belong to a dtqkit server, or the server has moved."""

    code = "not_a_server"


class WrongLoop(DtqError, RuntimeError):
    """An asynchronous object was used from an event loop that is not its own."""

    code = "wrong_loop"


class QueueClosed(DtqError, RuntimeError):
    """The queue was closed before this was done."""

    code = "queue_closed"


class MissingExtra(DtqError, ImportError):
    """Something needs a package that is not installed; names the extra that brings it."""

    code = "missing_extra"

    def __init__(self, what: str, package: str | None, extra: str) -> None:
        super().__init__(f"{what} needs {package}, which is not installed: pip install 'dtqkit[{extra}]'")


def facts_of(error: DtqError) -> dict[str, Any]:
    """The fields of `error` besides its message, for JSON."""
    return dict(vars(error))


def unpickled(kind: type[DtqError], args: tuple[Any, ...], facts: Mapping[str, Any]) -> DtqError:
    error = kind.__new__(kind)
    error.args = args
    vars(error).update(facts)
    if isinstance(error, JobFailed):
        error.__cause__ = original(error.module, error.error_type, error.error_message)
    return error


def rebuild(code: str, message: str, facts: Mapping[str, Any]) -> DtqError:
    """The error of this code again, as it was where it was raised; Refused for a code that no class has.

    Facts that are not given have the defaults of the class.
    """
    kind = next((kind for kind in _kinds(DtqError) if kind.code == code), None)
    if kind is None:
        return Refused(code, message)
    own = {name: tuple(cast("list[Any]", value)) if isinstance(value, list) else value for name, value in facts.items()}
    return unpickled(kind, (message,), own)


def _kinds(kind: type[DtqError]) -> Iterator[type[DtqError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)
