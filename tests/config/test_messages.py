"""What is said of a value that is wrong: what would be right, and what was given, unless that is a secret."""

from __future__ import annotations

import pytest

from heliosproxy.config import Config
from heliosproxy.errors import ConfigError


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("pool.mode", "sesion", 'one of "session", "transaction", "statement" is wanted, not "sesion"'),
        ("pool.check", "perhaps", 'true or false is wanted, not "perhaps"'),
        ("pool.check", [1], "true or false is wanted, not a list"),
        ("pool.min_size", "many", 'an integer is wanted, not "many"'),
        ("pool.min_size", 1.5, "an integer is wanted, not 1.5"),
        ("pool.max_connections", 0, "input should be greater than or equal to 1, not 0"),
        ("cache.l1.ttl", 0, "input should be greater than 0, not 0"),
        ("cache.semantic.similarity_threshold", "x", 'a number is wanted, not "x"'),
        (
            "pool.mode",
            "postgresql://app:s3cret@db",
            'one of "session", "transaction", "statement" is wanted, not ***',
        ),
        ("pool.min_size", "password=s3cret", "an integer is wanted, not ***"),
        (
            "pool.mode",
            "x" * 100,
            f'one of "session", "transaction", "statement" is wanted, not "{"x" * 55}...',
        ),
        ("node", {"name": "a"}, "an array of tables is wanted; write [[node]], with double brackets"),
        (
            "cache.table",
            {"name": "a"},
            "an array of tables is wanted; write [[cache.table]], with double brackets",
        ),
        ("cache.l2.enabled", True, "unknown key, known here: type, hosts, ttl"),
    ],
)
def test_a_message(key: str, value: object, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.from_mapping({key: value})
    assert str(caught.value) == f"{key}: {said}"
