"""Clusters: starting, ending, access, settings."""

from __future__ import annotations

import gc
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from heliosproxy.embedded import Cluster, EmbeddedError, install, node
from heliosproxy.embedded.home import Home, free_port, server_account
from heliosproxy.embedded.watchdog import process_table
from heliosproxy.errors import ConfigError, UnsupportedError


@pytest.fixture(scope="module")
def single() -> Iterator[Cluster]:
    """A cluster of one node, whose tests may kill it if they start it again."""
    with Cluster(replicas=0, settings={"work_mem": "7MB", "application_name": "it's \\ here"}) as cluster:
        yield cluster


def value(dsn: str, query: str) -> object:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def test_the_dsn_leads_a_superuser_to_a_utf8_database(single: Cluster) -> None:
    node = single.primary
    assert node.dsn == f"postgresql://postgres@127.0.0.1:{node.port}/postgres"
    assert value(node.dsn, "SHOW is_superuser") == "on"
    assert value(node.dsn, "SHOW server_encoding") == "UTF8"
    assert value(node.dsn, "SELECT datcollate FROM pg_database WHERE datname = 'postgres'") == install._LOCALE
    assert Path(str(value(node.dsn, "SHOW data_directory"))) == node.data_dir


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("wal_level", "logical"),
        ("max_connections", "200"),
        ("max_prepared_transactions", "10"),
        ("fsync", "off"),
        ("work_mem", "7MB"),
        ("application_name", "it's \\ here"),
        ("timezone", "UTC"),
    ],
)
def test_settings(single: Cluster, name: str, expected: str) -> None:
    # As the server was told: a session's own application_name hides the server's.
    query = (
        f"SELECT setting FROM pg_file_settings WHERE name = '{name}' AND applied ORDER BY seqno DESC LIMIT 1"
    )
    assert single.primary.sql(query) == [(expected,)]


def test_the_unix_socket_accepts_connections(single: Cluster) -> None:
    node = single.primary
    assert (
        value(f"host={node.socket_dir} port={node.port} user=postgres", "SELECT inet_server_port()") is None
    )


def test_pgvector_is_there(single: Cluster) -> None:
    single.primary.sql("CREATE EXTENSION IF NOT EXISTS vector")
    assert value(single.primary.dsn, "SELECT '[1,2]'::vector <-> '[1,4]'::vector") == 2.0


def test_a_killed_node_starts_again_with_what_was_committed(single: Cluster) -> None:
    node = single.primary
    node.sql("DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT 42 AS a")
    node.kill()
    assert not node.alive
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(node.dsn)
    node.kill()  # nothing is left to kill
    node.start()
    node.start()  # nothing is left to start
    assert node.alive
    assert value(node.dsn, "SELECT a FROM kept") == 42


def test_kill_ends_every_process_of_the_node(single: Cluster) -> None:
    node = single.primary
    with psycopg.connect(node.dsn) as connection:
        pids = {row[0] for row in connection.execute("SELECT pid FROM pg_stat_activity")}
        node.kill()
        assert not pids & process_table().keys()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    node.start()


@pytest.mark.parametrize("mode", ["smart", "fast", "immediate"])
def test_stop_and_start(single: Cluster, mode: str) -> None:
    node = single.primary
    node.stop(mode)  # type: ignore[arg-type]  # parametrize knows str only
    assert not node.alive
    node.start()
    assert value(node.dsn, "SELECT 1") == 1


def test_a_frozen_node_is_alive_and_silent(single: Cluster) -> None:
    node = single.primary
    with psycopg.connect(node.dsn, autocommit=True) as connection:
        node.freeze()
        assert node.alive
        with pytest.raises(psycopg.errors.ConnectionTimeout):
            psycopg.connect(node.dsn, connect_timeout=1)
        gc.collect()  # its socket, which the server would wait for a minute to say something
        connection.pgconn.send_query(b"SELECT 1")
        node.thaw()
        result = connection.pgconn.get_result()
        assert result is not None
        assert result.get_value(0, 0) == b"1"
        assert connection.pgconn.get_result() is None


def test_a_frozen_node_can_be_killed_and_stopped(single: Cluster) -> None:
    node = single.primary
    node.freeze()
    node.kill()
    node.start()
    node.freeze()
    node.stop()
    assert not node.alive
    node.start()


def test_hba_lines_win_but_never_lock_the_cluster_out() -> None:
    with Cluster(
        replicas=1, hba=["host all all 127.0.0.1/32 scram-sha-256", "local all all reject"]
    ) as cluster:
        cluster.primary.sql("CREATE ROLE app LOGIN PASSWORD 'secret'")
        app = f"host=127.0.0.1 port={cluster.primary.port} user=app dbname=postgres"
        assert value(f"{app} password=secret", "SELECT current_user") == "app"
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(f"{app} password=wrong")
        cluster.wait_caught_up()


def test_durable_forces_to_disk() -> None:
    with Cluster(replicas=0, durable=True) as cluster:
        assert value(cluster.primary.dsn, "SHOW fsync") == "on"


def test_nothing_is_left_after_the_block() -> None:
    with Cluster(replicas=1) as cluster:
        nodes = [*cluster.nodes]
        pids = {int((node.data_dir / "postmaster.pid").read_text().split()[0]) for node in nodes}
        assert pids <= process_table().keys()
        nodes[1].freeze()
    assert not pids & process_table().keys()
    assert not nodes[0].data_dir.parent.exists()
    cluster.close()
    with pytest.raises(RuntimeError, match="not running"):
        _ = cluster.primary


def test_a_port_that_was_taken_meanwhile_is_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        ports = iter([free_port(), taken])
        monkeypatch.setattr(node, "free_port", lambda: next(ports))
        with Cluster(replicas=1) as cluster:
            assert taken not in [each.port for each in cluster.nodes]
            cluster.wait_caught_up()


def test_a_server_that_cannot_start_tells_why() -> None:
    why = re.compile(r"node0 did not start.*shared_bufers", re.DOTALL)
    with pytest.raises(EmbeddedError, match=why), Cluster(replicas=0, settings={"shared_bufers": "1GB"}):
        pass


def test_a_folder_without_programs_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no program postgres"), Cluster(bindir=tmp_path):
        pass


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match=r"pip install 'heliosproxy\[embedded\]'"), Cluster():
        pass


def test_initdb_runs_where_there_is_no_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with Cluster(replicas=1) as cluster:
        cluster.wait_caught_up()


def test_the_template_is_published_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    home = Home(server_account())
    try:
        bindir = install.programs(None, home)
        install.make_data_dirs(bindir, home, [home.path / "first"])
        (template,) = (tmp_path / "heliosproxy").iterdir()
        install._publish(home.path / "first", tmp_path / "heliosproxy" / "other")
        with pytest.raises(OSError, match="not empty"):
            install._publish(home.path / "first", template)
        assert {path.name for path in (tmp_path / "heliosproxy").iterdir()} == {template.name, "other"}
    finally:
        home.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the servers as somebody else")
def test_root_copies_a_wheel_that_the_account_cannot_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "reachable", lambda path: False)
    with Cluster(replicas=0) as cluster:
        cluster.primary.sql("CREATE EXTENSION vector")
        assert cluster.primary.data_dir.parent.joinpath("wheel").exists()


@pytest.mark.debian
@pytest.mark.skipif(not Path("/usr/lib/postgresql/15/bin").exists(), reason="needs Debian's postgresql-15")
def test_another_postgresql() -> None:
    with Cluster(replicas=1, bindir="/usr/lib/postgresql/15/bin") as cluster:
        old, new = cluster.nodes
        assert str(value(old.dsn, "SHOW server_version")).startswith("15.")
        old.kill()
        new.promote()
        old.rejoin(new)
        cluster.wait_caught_up()
