"""What may be asked of a queue: the table of operations, their records, and Control, which answers them.

The rows stand in `dtqkit.control.operations` and, those of schedules, in `dtqkit.control.schedule_operations`.
"""

from dtqkit.control.control import Answers, Control
from dtqkit.control.cursors import decode_cursor, encode_cursor
from dtqkit.control.operations import OPERATIONS
from dtqkit.control.queries import (
    COLUMNS,
    MORE_COLUMNS,
    AttemptRow,
    DeadLetterFilters,
    DeadLetterQuery,
    HistoryFilters,
    HistoryQuery,
    JobFilters,
    JobQuery,
    columns_of,
    parse_since,
    query_of,
)
from dtqkit.control.records import (
    MAX_BATCH,
    MAX_PAGE,
    NOTHING,
    BatchItem,
    Health,
    JobRequest,
    JobsRequest,
    JobStatus,
    Log,
    Nothing,
    Page,
    PreValidated,
    Refusal,
    Requeued,
    Submission,
    lean,
    submission_of,
)
from dtqkit.control.schedule_operations import SCHEDULES
from dtqkit.control.statistics import Forecast, Minute, Stats, StatsQuery, TaskStats, Total, Totals
from dtqkit.control.table import Operation, Scope

__all__ = [
    "COLUMNS",
    "MAX_BATCH",
    "MAX_PAGE",
    "MORE_COLUMNS",
    "NOTHING",
    "OPERATIONS",
    "SCHEDULES",
    "Answers",
    "AttemptRow",
    "BatchItem",
    "Control",
    "DeadLetterFilters",
    "DeadLetterQuery",
    "Forecast",
    "Health",
    "HistoryFilters",
    "HistoryQuery",
    "JobFilters",
    "JobQuery",
    "JobRequest",
    "JobStatus",
    "JobsRequest",
    "Log",
    "Minute",
    "Nothing",
    "Operation",
    "Page",
    "PreValidated",
    "Refusal",
    "Requeued",
    "Scope",
    "Stats",
    "StatsQuery",
    "Submission",
    "TaskStats",
    "Total",
    "Totals",
    "columns_of",
    "decode_cursor",
    "encode_cursor",
    "lean",
    "parse_since",
    "query_of",
    "submission_of",
]
