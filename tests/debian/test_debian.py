"""The faces, the cache and the catalogue on PostgreSQL 15; TLS and SCRAM to the server."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest

import heliosproxy
from heliosproxy.embedded import Cluster
from heliosproxy.sql.catalog_load import load

MODES = ("session", "transaction", "statement")
TLS = "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
READ = "SELECT name FROM users WHERE id = %s"


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    mode: str = request.param
    return mode


@pytest.fixture
def users(shop: str) -> str:
    with psycopg.connect(shop, autocommit=True) as conn:
        conn.execute("DROP TABLE IF EXISTS users CASCADE")
        conn.execute("CREATE TABLE users (id int PRIMARY KEY, name text)")
        conn.execute("INSERT INTO users VALUES (1, 'Ada'), (2, 'Grace')")
        conn.execute("GRANT ALL ON users TO app")
    return shop


def test_it_is_the_server_that_is_meant(debian: Cluster) -> None:
    assert debian.primary.sql("SHOW server_version_num")[0][0].startswith("15")


@pytest.mark.parametrize("cache", [False, True])
def test_every_mode(users: str, mode: str, cache: bool) -> None:
    with (
        heliosproxy.Proxy({"pool.mode": mode, "cache.enabled": cache}) as proxy,
        proxy.connect(users, autocommit=mode == "statement") as conn,
    ):
        assert conn.info.server_version // 10_000 == 15
        assert conn.execute(READ, (1,)).fetchone() == ("Ada",)
        conn.execute("UPDATE users SET name = 'Lovelace' WHERE id = 1")
        assert conn.execute(READ, (1,)).fetchone() == ("Lovelace",)
        if mode != "statement":
            conn.rollback()
            assert conn.execute(READ, (1,)).fetchone() == ("Ada",)
        with pytest.raises(psycopg.errors.UndefinedTable):
            conn.execute("SELECT * FROM nowhere")


async def in_every_mode(users: str, mode: str) -> None:
    async with heliosproxy.Proxy({"pool.mode": mode, "cache.enabled": True}) as proxy:
        conn: Any
        async with await proxy.connect_async(users, autocommit=True) as conn:
            outcomes = []
            for _ in range(3):
                cursor = await conn.execute(READ, (2,))
                assert await cursor.fetchone() == ("Grace",)
                outcomes.append(cursor.helios.outcome)
            assert outcomes == ["miss", "hit", "hit"]


def test_asyncio_in_every_mode(users: str, mode: str) -> None:
    asyncio.run(in_every_mode(users, mode))


def test_a_hit_and_an_invalidation(users: str, mode: str) -> None:
    with (
        heliosproxy.Proxy({"pool.mode": mode, "cache.enabled": True}) as proxy,
        proxy.connect(users, autocommit=True) as reader,
        proxy.connect(users, autocommit=True) as writer,
    ):
        cursor = reader.cursor()

        def asked() -> tuple[Any, str]:
            return cursor.execute(READ, (1,)).fetchone(), cursor.helios.outcome

        assert asked() == (("Ada",), "miss")
        assert asked() == (("Ada",), "hit")
        writer.execute("UPDATE users SET name = 'Lovelace' WHERE id = 1")
        assert asked() == (("Lovelace",), "miss")
        assert asked() == (("Lovelace",), "hit")
        writer.execute("ALTER TABLE users ADD COLUMN age int")
        assert asked() == (("Lovelace",), "miss")
        # MERGE came with 15.
        writer.execute(
            "MERGE INTO users u USING (VALUES (1, 'Byron')) v (id, name) ON u.id = v.id"
            " WHEN MATCHED THEN UPDATE SET name = v.name"
        )
        assert asked() == (("Byron",), "miss")


def test_the_catalogue_is_read(users: str) -> None:
    with psycopg.connect(users, autocommit=True) as conn:
        conn.execute("CREATE VIEW names AS SELECT name FROM users")
        row = conn.execute("SELECT 'users'::regclass::oid::int, 'names'::regclass::oid::int").fetchone()
        assert row is not None
        catalog = load(conn, 1)
    table, view = row
    assert catalog.relations_named("users") == {table}
    assert table in catalog.reads(frozenset({view})).oids


@pytest.mark.parametrize("tls", [{"sslmode": "require"}, {"sslmode": "verify-full"}])
def test_tls(authority: Path, users: str, login: dict[str, Any], mode: str, tls: dict[str, str]) -> None:
    if tls["sslmode"] == "verify-full":
        tls = {**tls, "sslrootcert": str(authority / "ca.crt")}
    with (
        heliosproxy.Proxy({"pool.mode": mode, "cache.enabled": True}) as proxy,
        proxy.connect(**login, **tls, channel_binding="require", autocommit=True) as conn,
    ):
        used, version = conn.execute(TLS).fetchone()
        assert used
        assert version >= "TLSv1.2"
        assert conn.execute("SELECT current_user").fetchone() == ("app",)
        # The control connection, which reads the catalogue, logs in the same way.
        outcomes = [conn.execute(READ, (1,)).helios.outcome for _ in range(2)]
        assert outcomes == ["miss", "hit"]


def test_a_foreign_authority_is_refused(
    authority: Path, login: dict[str, Any], mode: str, tmp_path: Path
) -> None:
    other = tmp_path / "other.crt"
    other.write_bytes((authority / "server.crt").read_bytes())
    with heliosproxy.Proxy({"pool.mode": mode}) as proxy:
        with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
            proxy.connect(**login, sslmode="verify-full", sslrootcert=str(other))
        with pytest.raises(psycopg.OperationalError, match="reject"):
            proxy.connect(**login, sslmode="disable")
        assert proxy.stats()["connections"] == 0


def test_scram_with_another_password_is_refused(users: str, login: dict[str, Any], mode: str) -> None:
    with heliosproxy.Proxy({"pool.mode": mode}) as proxy:
        with proxy.connect(**login, sslmode="require") as conn:
            conn.execute("SELECT 1")
        wrong = {**login, "password": "wrong"}
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            proxy.connect(**wrong, sslmode="require")


def test_a_cancel_over_tls(login: dict[str, Any]) -> None:
    with (
        heliosproxy.Proxy({"pool.mode": "transaction"}) as proxy,
        proxy.connect(**login, sslmode="require", autocommit=True) as conn,
    ):
        timer = threading.Timer(0.3, conn.cancel_safe)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            conn.execute("SELECT pg_sleep(30)")
        timer.join()
        assert conn.execute("SELECT 1").fetchone() == (1,)
