"""What is asked for and not built is refused by name; what is built, or not asked for, is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from heliosproxy.config import Config, refuse_unavailable, unavailable
from heliosproxy.config.support import NOT_BUILT
from heliosproxy.errors import UnsupportedError

PLUGIN = {"name": "a", "path": "a.wasm", "hook": "query_rewrite"}
NODES = [{"name": "a", "dsn": ""}, {"name": "b", "dsn": ""}]


@pytest.mark.parametrize(
    ("data", "sections"),
    [
        ({}, []),
        ({"pool.mode": "statement", "cache.enabled": True, "cache.table": [{"name": "t"}]}, []),
        ({"node": NODES[:1], "server.workers": 2, "user": [{"name": "a", "verifier": "v"}], "http": {}}, []),
        (
            {
                "graphql.endpoint": "/g",
                "auth.jwt.issuer": "x",
                "cache.semantic.enabled": False,
                "plugins": {},
            },
            [],
        ),
        ({"graphql.enabled": True}, ["graphql"]),
        ({"cache.l2": {}}, ["cache.l2"]),
        ({"plugins.wasm": PLUGIN}, ["plugins.wasm"]),
        ({"routing": {}}, ["routing"]),
        ({"routing.workload.enabled": True}, ["routing", "routing.workload"]),
        ({"auth.ldap.enabled": True, "auth.enabled": True}, ["auth", "auth.ldap"]),
        ({"node": NODES}, ["node"]),
    ],
)
def test_a_section_is_asked_for_when_enabled_or_present(data: dict[str, object], sections: list[str]) -> None:
    assert [message.split(":")[0] for message in unavailable(Config.from_mapping(data))] == sections


def test_the_whole_file_asks_for_every_row_of_the_table() -> None:
    file = Path(__file__).with_name("full.toml")
    config = Config.load(file, environ={"DB_PASSWORD": "x", "APP_SCRAM_VERIFIER": "x"})
    assert [message.split(":")[0] for message in unavailable(config)] == [*NOT_BUILT, "node"]


def test_the_refusal_names_each() -> None:
    refuse_unavailable(Config.from_mapping({}))
    with pytest.raises(UnsupportedError) as caught:
        refuse_unavailable(Config.from_mapping({"graphql.enabled": True, "routing": {}}))
    assert str(caught.value).splitlines() == [
        "graphql: not available in this version",
        "routing: not available in this version",
    ]
