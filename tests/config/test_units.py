from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosproxy.config.units import (
    GB,
    KB,
    MAX_SECONDS,
    MAX_SIZE,
    MB,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1GB", GB),
        ("256MB", 256 * MB),
        ("64kB", 64 * KB),
        ("64KB", 64 * KB),
        ("1.5 gb", 3 * GB // 2),
        ("2TB", 2048 * GB),
        ("12B", 12),
        ("12", 12),
        (" 12 ", 12),
        (12, 12),
        (0, 0),
    ],
)
def test_a_size_is_binary_bytes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "GB",
        "1XB",
        "-1",
        -1,
        "1e3",
        "0.5",
        "1.0001kB",
        True,
        None,
        1.5,
        "9" * 41,
        "16000000TB",
        MAX_SIZE + 1,
    ],
)
def test_what_is_no_size_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError):
        parse_size(wrong)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("60s", 60.0),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("1d", 86400.0),
        ("100ms", 0.1),
        ("0.5s", 0.5),
        ("5", 5.0),
        (5, 5.0),
        (2.5, 2.5),
        (0, 0.0),
    ],
)
def test_a_duration_is_seconds(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "wrong",
    ["", "s", "5 min", "-1s", -1, True, None, [], float("nan"), float("inf"), 10**400, "37000d", "5M"],
)
def test_what_is_no_duration_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError):
        parse_duration(wrong)


def test_a_refusal_names_the_units() -> None:
    with pytest.raises(ValueError, match=r'"min" is no unit of time; there are ms, s, m, h, d'):
        parse_duration("5min")
    with pytest.raises(ValueError, match=r'"XB" is no unit of size'):
        parse_size("5XB")


@given(st.integers(0, MAX_SIZE) | st.integers(0, 2**23).map(lambda n: n * 1024**4 % (MAX_SIZE + 1)))
def test_a_formatted_size_reads_back(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.floats(0, MAX_SECONDS) | st.integers(0, int(MAX_SECONDS)).map(float) | st.floats(0, 1).map(abs))
def test_a_formatted_duration_reads_back(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0s"), (0.1, "100ms"), (60.0, "1m"), (90.0, "90s"), (86400.0, "1d"), (1e-7, "0.0000001s")],
)
def test_a_formatted_duration_is_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
