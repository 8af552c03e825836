"""Texts that differ in integers alone have equal facts; where nobody can be sure there is no shape."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosproxy.sql.analyse import analyse
from heliosproxy.sql.shape import shape, shared

FORMS = [
    "SELECT a FROM t WHERE b = {} AND c IN ({}, {})",
    "SELECT a, {} FROM t1 JOIN t2 ON t1.id = t2.id LIMIT {} OFFSET {}",
    "UPDATE t SET a = a + {} WHERE id = {} RETURNING {}",
    "INSERT INTO t (a, b, c) VALUES ({}, {}, {})",
    "DELETE FROM t WHERE a BETWEEN {} AND {} OR f({}) = a",
    "SELECT pg_advisory_xact_lock({}), a FROM t ORDER BY {}, {}",
    "WITH x AS (SELECT {} AS n FROM t) SELECT n FROM x GROUP BY {} HAVING count(*) > {} FOR UPDATE",
]
NUMBERS = st.integers(0, 10**30)


@given(st.sampled_from(FORMS), st.tuples(NUMBERS, NUMBERS, NUMBERS), st.tuples(NUMBERS, NUMBERS, NUMBERS))
def test_texts_of_one_shape_have_equal_facts(
    form: str, these: tuple[int, ...], those: tuple[int, ...]
) -> None:
    one, other = form.format(*these), form.format(*those)
    assert shape(one.encode()) == shape(other.encode()) is not None
    first, second = analyse(one), analyse(other)
    assert shared(first)
    assert dataclasses.replace(first, text="", cost=0) == dataclasses.replace(second, text="", cost=0)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 'a 1 b'",
        'SELECT "a 1" FROM t',
        "SELECT $1, 1",
        "SELECT $$ 1 $$",
        "SELECT 1 -- 2",
        "SELECT /* 1 */ 2",
        "SELECT E'\\\\ 1'",
        "SELECT a FROM t",
        "SELECT " + "1, " * 5000 + "1",
    ],
)
def test_where_nobody_can_be_sure_there_is_no_shape(text: str) -> None:
    assert shape(text.encode()) is None


@pytest.mark.parametrize(
    "text", ["SELECT a1 FROM t2", "SELECT 1.5", "SELECT 1e5", "SELECT 0x1F", "SELECT é1"]
)
def test_digits_that_are_no_integer_stay(text: str) -> None:
    assert shape(text.encode()) is None


@pytest.mark.parametrize(
    "text",
    ["SET work_mem TO 64", "SELECT set_config(x, y, true) FROM t WHERE a = 1", "LOCK TABLE t", "VACUUM t"],
)
def test_what_an_integer_may_decide_is_not_shared(text: str) -> None:
    assert not shared(analyse(text))
