"""Filters as keyword arguments are the fields of the queries."""

from typing import Any

import pytest

from dtqkit.control import DeadLetterFilters, DeadLetterQuery, HistoryFilters, HistoryQuery, JobFilters, JobQuery


@pytest.mark.parametrize(
    ("filters", "query"),
    [(JobFilters, JobQuery), (DeadLetterFilters, DeadLetterQuery), (HistoryFilters, HistoryQuery)],
)
def test_the_filters_that_a_type_checker_knows_are_those_of_the_query(filters: Any, query: Any) -> None:
    assert tuple(filters.__annotations__) == query.__struct_fields__
