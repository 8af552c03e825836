"""Replication clients (PostgreSQL, 55.4) in session mode: what PostgreSQL's own programs do with the server itself."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from heliosproxy.embedded import Cluster
from heliosproxy.embedded.home import wait_until
from tests.server.conftest import Served
from tests.server.test_programs import BIN, environment

SLOT = "helios_slot"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of its own, whose log says enough to decode it."""
    with Cluster(replicas=0, settings={"wal_level": "logical", "max_wal_senders": "10"}) as cluster:
        yield cluster


@pytest.fixture
def server(source: Cluster) -> Iterator[Served]:
    made = Served(source.primary.dsn, helios_mode="session", helios_server_connections=6)
    yield made
    made.close()


def told(served: Served, program: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / program, *arguments],
        capture_output=True,
        text=True,
        env=environment(served.url),
        cwd=folder,
        timeout=60,
    )


def outcome(conn: psycopg.Connection[Any], command: str) -> Any:
    try:
        row: Any = conn.execute(command).fetchone()
        return row[:2]  # the third of IDENTIFY_SYSTEM is where the log is just now
    except psycopg.Error as error:
        return type(error), str(error)


@pytest.mark.parametrize("kind", ["database", "true"])
@pytest.mark.parametrize("command", ["IDENTIFY_SYSTEM", "SHOW wal_level", "IDENTIFY_SISTER", "SELECT 1"])
def test_commands_are_answered_as_the_server_does(server: Served, kind: str, command: str) -> None:
    conn, direct = server.connect(replication=kind), server.direct(replication=kind)
    for _ in range(2):
        assert outcome(conn, command) == outcome(direct, command)
    assert conn.info.encoding == direct.info.encoding
    assert server.leased == 1
    conn.close()
    assert server.settles(0)


def test_where_it_is_about_a_database_sql_works_beside_it(server: Served) -> None:
    conn = server.connect(replication="database", application_name="it's me", options="-c work_mem=7MB")
    seen = conn.execute("SELECT current_setting('application_name'), current_setting('work_mem')").fetchone()
    assert seen == ("it's me", "7MB")


def test_a_base_backup_with_its_log(server: Served, tmp_path: Path) -> None:
    done = told(
        server, "pg_basebackup", "-D", "copy", "-X", "stream", "-c", "fast", "--no-sync", folder=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "copy" / "PG_VERSION").exists()
    checked = told(server, "pg_verifybackup", "copy", folder=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert server.settles(0)


def test_changes_are_streamed_until_the_client_has_enough(
    server: Served, source: Cluster, tmp_path: Path
) -> None:
    source.primary.sql("DROP TABLE IF EXISTS streamed")
    source.primary.sql("CREATE TABLE streamed (id int PRIMARY KEY)")
    source.primary.sql("DROP PUBLICATION IF EXISTS everything")
    source.primary.sql("CREATE PUBLICATION everything FOR ALL TABLES")
    common = ["-d", "postgres", "--slot", SLOT]
    made = told(server, "pg_recvlogical", *common, "--create-slot", "-P", "pgoutput", folder=tmp_path)
    assert made.returncode == 0, made.stderr
    source.primary.sql("INSERT INTO streamed SELECT generate_series(1, 1000)")
    end = source.primary.sql("SELECT pg_current_wal_lsn()::text")[0][0]
    options = ["-o", "proto_version=1", "-o", "publication_names=everything"]
    got = told(
        server,
        "pg_recvlogical",
        *common,
        "--start",
        *options,
        "--endpos",
        end,
        "-f",
        "changes",
        folder=tmp_path,
    )
    assert got.returncode == 0, got.stderr
    assert (tmp_path / "changes").stat().st_size > 1000
    dropped = told(server, "pg_recvlogical", *common, "--drop-slot", folder=tmp_path)
    assert dropped.returncode == 0, dropped.stderr


def test_in_transaction_mode_it_is_refused_with_what_to_do(served: Callable[..., Served]) -> None:
    with pytest.raises(psycopg.OperationalError, match=r"it works with pool\.mode = 'session'"):
        served("transaction").connect(replication="database")


def test_a_database_that_is_not_there_is_the_servers_to_refuse(server: Served) -> None:
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        server.connect(replication="database", dbname="nowhere")
    assert server.settles(0)
    assert not [name for name in server.proxy.stats()["pools"] if "nowhere" in name]


def test_it_counts_among_the_server_connections(source: Cluster) -> None:
    server = Served(
        source.primary.dsn, helios_mode="session", helios_server_connections=1, helios_pool_timeout=0
    )
    holder = server.connect(replication="true")
    with pytest.raises(psycopg.OperationalError, match="leased"):
        server.connect(replication="true", connect_timeout=5)
    holder.close()
    assert server.settles(0)
    server.connect(replication="true").close()
    server.close()


def test_its_server_dies_and_so_does_it(server: Served, source: Cluster) -> None:
    conn = server.connect(replication="database")
    source.primary.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'walsender'"
    )
    with pytest.raises(psycopg.OperationalError):
        conn.execute("IDENTIFY_SYSTEM")
    assert server.settles(0)


def test_who_does_not_read_is_not_read_for(server: Served, source: Cluster, tmp_path: Path) -> None:
    source.primary.sql("DROP TABLE IF EXISTS large")
    source.primary.sql("CREATE TABLE large AS SELECT repeat('x', 1000) FROM generate_series(1, 60000)")
    conn = server.connect(replication="true")
    sock = socket.socket(fileno=os.dup(conn.fileno()))
    sock.setblocking(True)
    sock.sendall(b"Q" + (len("BASE_BACKUP ( CHECKPOINT 'fast' )") + 5).to_bytes(4, "big"))
    sock.sendall(b"BASE_BACKUP ( CHECKPOINT 'fast' )\0")
    sock.recv(1000)
    (link,) = [link for link in server.serving._service.links.values() if link.relay is not None]
    wait_until(lambda: link.choked, 20, "the client takes no more")
    held = link.transport.get_write_buffer_size()
    assert held < 5_000_000
    sock.close()
    conn.close()
    assert server.settles(0)
