"""What a text says of channels and of prepared statements."""

from __future__ import annotations

import pytest

from heliosproxy.sql.analyse import analyse
from heliosproxy.sql.statement import Parameter

NAMES = {
    "LISTEN Folded": "folded",
    'LISTEN "As it is"': "As it is",
    "UNLISTEN a": "a",
    "UNLISTEN *": None,
    "DEALLOCATE PREPARE a": "a",
    'DEALLOCATE "ALL"': "ALL",
    "DEALLOCATE ALL -- of them": None,
    "SELECT 1": None,
}


@pytest.mark.parametrize("text", NAMES)
def test_names(text: str) -> None:
    assert analyse(text).name == NAMES[text]


NOTICES = {
    "NOTIFY a": ("a", ""),
    "NOTIFY a, 'x'": ("a", "x"),
    "SELECT pg_notify('A', '')": ("A", ""),
    "SELECT pg_catalog.pg_notify('a', 'x'::text)": ("a", "x"),
    "SELECT pg_notify($1, $2::text)": (Parameter(1), Parameter(2)),
    "SELECT pg_notify('a', lower('X'))": None,
    "SELECT pg_notify('a', NULL)": None,
    "SELECT pg_notify('a', 'x') FROM t": None,
    "SELECT pg_notify('a', 'x') WHERE false": None,
    "SELECT pg_notify('a', 'x') LIMIT 0": None,
    "SELECT pg_notify('a', 'x'), 1": None,
    "SELECT 1": None,
}


@pytest.mark.parametrize("text", NOTICES)
def test_notices(text: str) -> None:
    assert analyse(text).notice == NOTICES[text]
