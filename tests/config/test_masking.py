"""No secret of a configuration is printed, whatever prints it."""

from __future__ import annotations

import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo

from heliosproxy.config import Config, Dsn, mask_dsn
from heliosproxy.errors import ConfigError


@pytest.mark.parametrize(
    ("dsn", "masked"),
    [
        ("", ""),
        ("postgresql://db/shop", "postgresql://db/shop"),
        ("postgresql://app@db/shop", "postgresql://app@db/shop"),
        ("postgresql://app:hunter2@db-1:5432/shop", "postgresql://app:***@db-1:5432/shop"),
        (
            "postgres://app:hun%40ter2@[::1]/shop?sslmode=require",
            "postgres://app:***@[::1]/shop?sslmode=require",
        ),
        ("postgresql://app@a,b/x?password=hunter2&port=1", "postgresql://app@a,b/x?password=***&port=1"),
        ("postgresql://db/x?sslpassword=hunter2", "postgresql://db/x?sslpassword=***"),
        ("postgresql://:hunter2@/x", "postgresql://:***@/x"),
        ("host=db user=app", "host=db user=app"),
        ("host=db password=hunter2 user=app", "user=app password=*** host=db"),
        (r"password='hunter2 \' x' host=db", "password=*** host=db"),
        ("password = hunter2", "password=***"),
        # Not what libpq takes it for, or nothing to libpq at all: masked whole.
        ("postgresql://app:hunter2@hunter2@db/x", "***"),
        ("postgresql://app:hun/ter2@db/x", "***"),
        ("postgresql://db/x?pass%77ord=hunter2", "***"),
        ("password=hunter2 oops", "***"),
        ("hunter2", "***"),
    ],
)
def test_a_dsn_is_shown_without_its_password(dsn: str, masked: str) -> None:
    assert mask_dsn(dsn) == masked


# Letters that occur nowhere else in the connection strings below.
PASSWORDS = st.text(st.sampled_from("XYZ0123456789 '\\@:/?&=#%"), min_size=1).map(lambda text: f"QQ{text}QQ")


@given(PASSWORDS)
def test_no_password_survives_in_key_value_form(password: str) -> None:
    assert "QQ" not in mask_dsn(make_conninfo("host=db user=app", password=password))


@given(PASSWORDS)
def test_no_raw_password_survives_in_a_uri(password: str) -> None:
    # Not percent-encoded, as people write it: whatever libpq makes of it, nothing of it is shown.
    assert "QQ" not in mask_dsn(f"postgresql://app:{password}@db/shop")


def test_neither_repr_nor_str_nor_dump_shows_a_secret() -> None:
    config = Config.from_mapping(
        {
            "node": [{"name": "a", "dsn": "postgresql://app:hunter2@db/x"}],
            "user": [{"name": "app", "verifier": "hunter2"}],
        }
    )
    for text in (repr(config), str(config), str(config.model_dump()), config.model_dump_json()):
        assert "hunter2" not in text
        assert "app:***@db" in text
    assert str(Dsn("password=hunter2 host=db")) == "password=*** host=db"


def test_an_error_shows_no_secret() -> None:
    data = {
        "node": [{"name": "a", "dsn": "postgresql://app:hunter2@db:port:x/x"}],
        "user": [{"name": "app", "verifier": ["hunter2"]}],
    }
    with pytest.raises(ConfigError) as caught:
        Config.from_mapping(data)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_what_psycopg_cannot_decode_is_masked_whole() -> None:
    assert mask_dsn("postgresql://app:QQ%80@db/shop") == "***"
