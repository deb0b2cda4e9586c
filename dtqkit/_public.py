"""All public names, each from its home. `dtqkit` loads this at the first use of one of them."""

from dtqkit._version import VERSION
from dtqkit.client.aio import AsyncTaskQueue
from dtqkit.client.async_handle import AsyncJobHandle
from dtqkit.client.decorators import task
from dtqkit.client.handles import JobHandle, JobList
from dtqkit.client.queue import TaskQueue
from dtqkit.client.schedule_handles import ScheduleHandle
from dtqkit.client.schedules import AsyncScheduleHandle
from dtqkit.control.bulk import Bulk, MatchesEverything
from dtqkit.model.batches import BatchOutcomeUnknown, BatchRefused, BatchUnavailable
from dtqkit.model.errors import (
    AccessDenied,
    AppError,
    DocumentRefused,
    DtqError,
    Forbidden,
    IdempotencyConflict,
    InvalidOption,
    InvalidPayload,
    InvalidQuery,
    InvalidRequest,
    InvalidResult,
    JobCancelled,
    JobConflict,
    JobFailed,
    JobNotFound,
    MissingExtra,
    NamespaceTaken,
    NotAServer,
    OutcomeUnknown,
    PayloadTooLarge,
    QueueClosed,
    Refused,
    ServerError,
    SettingsError,
    StoreUnavailable,
    TaskAlreadyRegistered,
    TaskDefinitionError,
    TaskTimeout,
    TooManyAttempts,
    UnknownTask,
    WaitTimeout,
    WrongLoop,
)
from dtqkit.model.expired import JobExpired
from dtqkit.model.followups import JobEnd
from dtqkit.model.hook_errors import HookError, LifespanFailed, MiddlewareFailed
from dtqkit.model.jobs import Attempt, Job, JobError, Priority, Status
from dtqkit.model.pause_errors import InvalidPause, NotPaused
from dtqkit.model.pauses import Pause
from dtqkit.model.schedule_errors import (
    InvalidCron,
    InvalidSchedule,
    ScheduleNotFound,
    ScheduleTaken,
    ScheduleUnreadable,
    UnknownZone,
)
from dtqkit.model.schedules import Schedule
from dtqkit.model.settings import Settings
from dtqkit.model.starting import CannotListen, LocalStoreError, NoWorkerCanStart, SimulationFailed, StartFailed
from dtqkit.model.unique_errors import DuplicateJob
from dtqkit.model.verdicts import GiveUp, RetryAfter, Snooze
from dtqkit.tasks.context import Context
from dtqkit.tasks.middleware import Middleware
from dtqkit.tasks.options import TaskOptions
from dtqkit.tasks.task import Call, Task
from dtqkit.worker.context import current_context

__version__ = VERSION

__all__ = [
    "AccessDenied",
    "AppError",
    "AsyncJobHandle",
    "AsyncScheduleHandle",
    "AsyncTaskQueue",
    "Attempt",
    "BatchOutcomeUnknown",
    "BatchRefused",
    "BatchUnavailable",
    "Bulk",
    "Call",
    "CannotListen",
    "Context",
    "DocumentRefused",
    "DtqError",
    "DuplicateJob",
    "Forbidden",
    "GiveUp",
    "HookError",
    "IdempotencyConflict",
    "InvalidCron",
    "InvalidOption",
    "InvalidPause",
    "InvalidPayload",
    "InvalidQuery",
    "InvalidRequest",
    "InvalidResult",
    "InvalidSchedule",
    "Job",
    "JobCancelled",
    "JobConflict",
    "JobEnd",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobHandle",
    "JobList",
    "JobNotFound",
    "LifespanFailed",
    "LocalStoreError",
    "MatchesEverything",
    "Middleware",
    "MiddlewareFailed",
    "MissingExtra",
    "NamespaceTaken",
    "NoWorkerCanStart",
    "NotAServer",
    "NotPaused",
    "OutcomeUnknown",
    "Pause",
    "PayloadTooLarge",
    "Priority",
    "QueueClosed",
    "Refused",
    "RetryAfter",
    "Schedule",
    "ScheduleHandle",
    "ScheduleNotFound",
    "ScheduleTaken",
    "ScheduleUnreadable",
    "ServerError",
    "Settings",
    "SettingsError",
    "SimulationFailed",
    "Snooze",
    "StartFailed",
    "Status",
    "StoreUnavailable",
    "Task",
    "TaskAlreadyRegistered",
    "TaskDefinitionError",
    "TaskOptions",
    "TaskQueue",
    "TaskTimeout",
    "TooManyAttempts",
    "UnknownTask",
    "UnknownZone",
    "WaitTimeout",
    "WrongLoop",
    "__version__",
    "current_context",
    "task",
]
