"""Random operations on several interleaved connections: the same in every answer as psycopg's own connections.

Three logical connections share two server connections. Their peers are three plain connections of psycopg to a
database of the same content. Each operation is done on both sides; what comes back, or the error with its
SQLSTATE and position, and the transaction status must be equal.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import heliosproxy
from tests.dbapi.operations import (
    AFTER_STREAM,
    METHODS,
    Operation,
    Peer,
    idle_servers_die,
    look_around,
)
from tests.dbapi.peers import Pair
from tests.dbapi.texts import PARAMETERS, TEXTS

# The same operations in each run, unless EXPLORE=<number of examples> asks for others.
EXPLORE = int(os.environ.get("EXPLORE", "0"))

CONNECTIONS = 3
SERVERS = 2

SCHEMA = """
DROP SCHEMA IF EXISTS other CASCADE;
CREATE SCHEMA other;
DROP TABLE IF EXISTS t0, t1, t2, d0, d1, d2;
CREATE TABLE t0 (id int PRIMARY KEY, v text); CREATE TABLE t1 (LIKE t0 INCLUDING ALL);
CREATE TABLE t2 (LIKE t0 INCLUDING ALL);
CREATE TABLE d0 (id int); CREATE TABLE d1 (id int); CREATE TABLE d2 (id int);
CREATE TABLE other.t0 (id int PRIMARY KEY, v text, w int);
INSERT INTO t0 VALUES (1, 'a'), (2, 'b'); INSERT INTO t1 SELECT * FROM t0; INSERT INTO t2 SELECT * FROM t0;
INSERT INTO other.t0 VALUES (9, 'z', 0); INSERT INTO d0 VALUES (1); INSERT INTO d1 VALUES (1);
ALTER DATABASE "{database}" SET app.x = '';
ALTER DATABASE "{database}" SET app.y = '';
GRANT ALL ON SCHEMA public, other TO same_as_role;
GRANT ALL ON ALL TABLES IN SCHEMA public, other TO same_as_role;
"""


def _texts() -> st.SearchStrategy[Operation]:
    def operation(text: str, prepare: bool | None) -> Operation:
        def run(peer: Peer, n: int) -> Any:
            return peer.answers(peer.conn.execute(text.replace("{n}", str(n)), prepare=prepare))

        run.__name__ = f"execute {text!r} prepare={prepare}"
        return run

    return st.builds(operation, st.sampled_from(TEXTS), st.sampled_from([None, None, True]))


def _parameters() -> st.SearchStrategy[Operation]:
    def operation(recipe: tuple[str, tuple[Any, ...]], binary: bool) -> Operation:
        def run(peer: Peer, n: int) -> Any:
            text, parameters = recipe
            cursor = peer.conn.cursor(binary=binary)
            return peer.answers(cursor.execute(text.replace("{n}", str(n)), parameters))

        run.__name__ = f"execute {recipe!r} binary={binary}"
        return run

    return st.builds(operation, st.sampled_from(PARAMETERS), st.booleans())


@pytest.fixture(scope="module")
def databases(dsn: str) -> Iterator[tuple[str, str]]:
    """Two databases of the same content: for heliosproxy, and for psycopg alone."""
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    peer = f"{name}_peer"[-63:]
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("CREATE ROLE same_as_role")
        conn.execute(f'DROP DATABASE IF EXISTS "{peer}" WITH (FORCE)')
        conn.execute(f'CREATE DATABASE "{peer}"')
    yield dsn, psycopg.conninfo.make_conninfo(dsn, dbname=peer)
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(f'DROP DATABASE "{peer}" WITH (FORCE)')
        conn.execute("DROP OWNED BY same_as_role")
        conn.execute("DROP ROLE same_as_role")


STEPS = st.lists(
    st.tuples(
        st.integers(0, CONNECTIONS - 1),
        st.one_of(_texts(), _texts(), _texts(), _parameters(), st.sampled_from(METHODS)),
    ),
    min_size=20,
    max_size=60,
)


@pytest.mark.parametrize("kind", ["transaction", "transaction_cached", "session_cached"])
def test_random_operations_do_the_same_as_with_psycopg_alone(databases: tuple[str, str], kind: str) -> None:
    @settings(
        max_examples=EXPLORE or 10,
        derandomize=not EXPLORE,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(steps=STEPS, autocommit=st.booleans())
    def compare(steps: list[tuple[int, Operation]], autocommit: bool) -> None:
        run(databases, kind, steps, autocommit)

    compare()


def run(
    databases: tuple[str, str], kind: str, steps: list[tuple[int, Operation]], autocommit: bool = False
) -> None:
    for database in databases:
        with psycopg.connect(database, autocommit=True) as conn:
            conn.execute("SET client_min_messages = error")
            conn.execute(SCHEMA.format(database=conn.info.dbname).encode())
    mode, _, cached = kind.partition("_")
    options: dict[str, Any] = {"helios_mode": mode, "helios_pool_timeout": 0}
    if cached:
        options["helios_cache"] = True
    if mode == "transaction":
        options["helios_server_connections"] = SERVERS
    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(heliosproxy.Proxy(**options))
        pairs = []
        for n in range(CONNECTIONS):
            ours = proxy.connect(databases[0], autocommit=autocommit)
            stack.callback(ours.close)
            theirs = psycopg.connect(databases[1], autocommit=autocommit)
            stack.callback(theirs.close)
            pairs.append(Pair(n, ours, theirs))
        done = []
        for n, operation in steps:
            pair = pairs[n]
            if mode == "transaction" and not pair.holds:
                holders = [other for other in pairs if other.holds]
                if len(holders) == SERVERS:
                    done.append((holders[0].n, "let_go"))
                    holders[0].let_go()
            if operation.__name__.startswith(AFTER_STREAM) and pair.streamed:
                continue
            pair.streamed |= operation.__name__.startswith("stream")
            pair.compare(operation, done)
        for pair in pairs:
            for other in pairs:
                if other is not pair and other.holds:
                    other.let_go()
            pair.let_go(discard=False)
            pair.compare(look_around, done)
            pair.let_go(discard=False)
            pair.compare(idle_servers_die, done)
            pair.compare(look_around, done)
            pair.let_go()
