"""What one session has prepared another one uses only if the server reads it alike for both."""

from __future__ import annotations

from typing import Any

import pytest

from tests.dbapi.conftest import Room

DATE = "SELECT '01/02/2024'::date::text, %s::int"
TIMES = 8  # psycopg prepares what it has seen five times


def last(conn: Any, query: str) -> str:
    """The last of several answers."""
    return [conn.execute(query, (number,)).fetchone()[0] for number in range(TIMES)][-1]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("setting", "query", "ours", "theirs"),
    [
        ("DateStyle TO 'ISO, DMY'", DATE, "2024-02-01", "2024-01-02"),
        (
            "TimeZone TO 'Asia/Tokyo'",
            "SELECT extract(epoch FROM '2024-01-01 00:00'::timestamptz)::bigint::text, %s::int",
            "1704034800",
            "1704067200",
        ),
    ],
)
@pytest.mark.parametrize("local", [False, True])
def test_constants_are_read_by_the_settings_of_who_asks(
    one_server: Room, local: bool, setting: str, query: str, ours: str, theirs: str
) -> None:
    one, other = one_server.connect(autocommit=not local), one_server.auto()
    one.execute(f"SET {'LOCAL ' if local else ''}{setting}")
    assert last(one, query) == ours
    one.commit()
    assert last(other, query) == theirs


def test_nobody_uses_what_was_prepared_in_a_pipeline_behind_a_setting(one_server: Room) -> None:
    one, other = one_server.auto(), one_server.auto()
    with one.pipeline():
        one.execute("SET DateStyle TO 'ISO, DMY'")
        for number in range(TIMES):
            one.execute(DATE, (number,))
    assert last(other, DATE) == "2024-01-02"
    assert last(one, DATE) == "2024-02-01"
