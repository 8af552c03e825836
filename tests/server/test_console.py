"""The console: what an administrator sees and does, and who may."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from heliosproxy.embedded.home import wait_until
from heliosproxy.server.console.command import Command, parse
from heliosproxy.server.console.commands import _OWN as OWN
from heliosproxy.server.console.tables import TABLES
from heliosproxy.server.protocol import frontend
from heliosproxy.server.protocol.errors import ProtocolViolation
from tests.server.conftest import Served
from tests.server.wire import Wire

Make = Callable[..., Served]

# PgBouncer's own columns, which exporters ask for by name (doc/usage.md of PgBouncer 1.18).
PGBOUNCER = {
    "POOLS": "database user cl_active cl_waiting sv_active sv_idle sv_used sv_tested sv_login maxwait maxwait_us"
    " pool_mode",
    "STATS": "database total_xact_count total_query_count total_received total_sent total_xact_time total_query_time"
    " total_wait_time avg_xact_count avg_query_count avg_recv avg_sent avg_xact_time avg_query_time avg_wait_time",
    "DATABASES": "name host port database force_user pool_size reserve_pool pool_mode max_connections"
    " current_connections paused disabled",
    "CLIENTS": "type user database state addr port local_addr local_port connect_time request_time wait wait_us"
    " close_needed ptr link remote_pid tls application_name",
    "SERVERS": "type user database state addr port local_addr local_port connect_time request_time wait wait_us"
    " close_needed ptr link remote_pid tls application_name",
    "LISTS": "list items",
    "CONFIG": "key value default changeable",
    "USERS": "name pool_mode",
    "VERSION": "version",
}


def console(served: Served, **keywords: Any) -> psycopg.Connection[Any]:
    url = make_conninfo(served.url, **{"dbname": "heliosproxy", "user": "admin", **keywords})
    served._clients.append(psycopg.connect(url, autocommit=True, row_factory=psycopg.rows.dict_row))
    return served._clients[-1]  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", [*TABLES, *OWN])
@pytest.mark.parametrize("extended", [False, True])
def test_every_table_is_shown_by_either_protocol(served: Make, name: str, extended: bool) -> None:
    admin = console(served())
    cursor = admin.execute(f"show {name.lower()};", prepare=extended)
    assert cursor.description is not None
    names = [column.name for column in cursor.description]
    assert set(PGBOUNCER.get(name, "").split()) <= set(names)
    for row in cursor.fetchall():
        assert list(row) == names


def test_the_numbers_are_those_of_the_pool(served: Make) -> None:
    made = served(helios_cache=True)
    admin = console(made)
    client = made.connect(application_name="shop")
    client.execute("CREATE TABLE IF NOT EXISTS seen (n int)")
    for _ in range(3):
        client.execute("SELECT n FROM seen")
    (pool,) = admin.execute("SHOW POOLS").fetchall()
    assert (pool["cl_active"], pool["cl_waiting"], pool["sv_idle"]) == (1, 0, 1)
    assert pool["pool_mode"] == "transaction"
    (stats,) = admin.execute("SHOW STATS").fetchall()
    assert stats["total_query_count"] == 4
    assert stats["total_cache_hits"] == 2
    assert stats["total_received"] > 100 < stats["total_sent"]
    shown = {row["user"]: row for row in admin.execute("SHOW CLIENTS").fetchall()}
    assert shown["postgres"]["application_name"] == "shop"
    assert shown["postgres"]["state"] == "idle"
    assert shown["postgres"]["id"] == client.info.backend_pid
    client.execute("SELECT pg_advisory_lock(1)")
    (server,) = admin.execute("SHOW SERVERS").fetchall()
    assert server["state"] == "active"
    assert int(server["link"], 16) == client.info.backend_pid
    assert admin.execute("SHOW PINS").fetchall() == [{"reason": "advisory_lock", "count": 1}]
    client.close()
    assert made.settles()
    assert admin.execute("SHOW PINS").fetchall() == [{"reason": "advisory_lock", "count": 1}]


@pytest.mark.parametrize(
    ("said", "sqlstate"),
    [
        ("SELECT 1", "08P01"),
        ("SELECT d.datname FROM pg_catalog.pg_database d ORDER BY 1;", "08P01"),
        ("SHOW NOTHING", "42P01"),
        ("SHOW", "42601"),
        ("KILL", "42601"),
        ("SHOW POOLS; SHOW STATS", "42601"),
        ("RESUME nowhere", "55000"),
        ("KILL 4711", "42704"),
        ("KILL nowhere", "42704"),
        ("RELOAD", "55000"),  # a server in an application's own process has no file
        ("PAUSE a b", "42601"),
    ],
)
def test_what_it_does_not_understand_it_says_and_goes_on(served: Make, said: str, sqlstate: str) -> None:
    admin = console(served())
    for prepare in (False, True):
        with pytest.raises(psycopg.Error) as refusal:
            admin.execute(said, prepare=prepare)
        assert refusal.value.sqlstate == sqlstate
    assert admin.execute("SHOW VERSION").fetchone()


@pytest.mark.parametrize("said", ["", "SET client_encoding TO 'UTF8'", "BEGIN", "COMMIT", "-- nothing"])
def test_what_drivers_say_on_their_own_is_let_pass(served: Make, said: str) -> None:
    admin = console(served())
    admin.execute(said)
    assert admin.execute("SHOW VERSION").fetchone()


def test_binary_results_are_refused(served: Make) -> None:
    with pytest.raises(psycopg.NotSupportedError):
        console(served()).execute("SHOW POOLS", binary=True)


# -- acting ------------------------------------------------------------------------------------------


def test_pause_waits_for_transactions_and_resume_serves_in_order(served: Make) -> None:
    made = served(helios_server_connections=1)
    admin, other = console(made), console(made)
    busy = made.connect(autocommit=False)
    busy.execute("SELECT 1")
    pausing = threading.Thread(target=lambda: admin.execute("PAUSE"))
    pausing.start()
    while other.execute("SHOW DATABASES").fetchall()[0]["paused"] != 1:
        pass
    assert busy.execute("SELECT 2").fetchone() == (2,)  # its transaction goes on
    assert pausing.is_alive()
    busy.commit()
    pausing.join(20)
    assert not pausing.is_alive()
    with made.direct() as direct:
        servers = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'paused'"
        assert direct.execute(servers).fetchone() == (0,)
        direct.execute("DROP SEQUENCE IF EXISTS turns; CREATE SEQUENCE turns")
    turns: dict[int, Any] = {}

    def ask(n: int, client: psycopg.Connection[Any]) -> None:
        turns[n] = client.execute("SELECT nextval('turns')").fetchone()

    threads = []
    for n in range(3):
        threads.append(threading.Thread(target=ask, args=(n, made.connect())))
        threads[-1].start()
        while other.execute("SHOW POOLS").fetchall()[0]["cl_waiting"] != n + 1:
            pass
    assert not turns
    other.execute("RESUME")
    for thread in threads:
        thread.join(20)
    assert turns == {0: (1,), 1: (2,), 2: (3,)}


def test_a_pause_of_everything_is_not_ended_for_one_database(served: Make) -> None:
    made = served()
    admin, client = console(made), made.connect()
    name = client.info.dbname
    admin.execute("PAUSE")
    for before in ("SHOW VERSION", f'PAUSE "{name}"'):
        admin.execute(before)
        with pytest.raises(psycopg.Error) as refusal:
            admin.execute(f'RESUME "{name}"')
        assert refusal.value.sqlstate == "55000"
        assert f"everything is paused, and database {name} with it" in str(refusal.value)
        assert "RESUME without a name" in str(refusal.value)
        assert [row["paused"] for row in admin.execute("SHOW DATABASES").fetchall()] == [1]
    admin.execute("RESUME")
    assert client.execute("SELECT 1").fetchone() == (1,)
    admin.execute(f'PAUSE "{name}"')
    admin.execute(f'RESUME "{name}"')
    assert client.execute("SELECT 1").fetchone() == (1,)


def test_pause_holds_those_who_keep_their_server_connection(served: Make) -> None:
    made = served("session")
    admin = console(made)
    client = made.connect()
    pid = client.execute("SELECT pg_backend_pid()").fetchone()
    admin.execute("PAUSE")
    found: list[Any] = []
    asking = threading.Thread(
        target=lambda: found.append(client.execute("SELECT pg_backend_pid()").fetchone())
    )
    asking.start()
    while {row["state"] for row in admin.execute("SHOW CLIENTS").fetchall()} != {"waiting", "active"}:
        pass
    assert not found
    admin.execute("RESUME")
    asking.join(20)
    assert found == [pid]


def test_what_is_done_is_logged(served: Make, caplog: pytest.LogCaptureFixture) -> None:
    admin = console(served())
    with caplog.at_level("INFO", "heliosproxy.server"):
        admin.execute("PAUSE shop")
        admin.execute("RESUME")
        admin.execute("SHOW VERSION")
    user = admin.info.user
    assert [record.getMessage() for record in caplog.records] == [
        f"PAUSE shop, says {user}",
        f"RESUME, says {user}",
    ]


def test_config_has_the_defaults_of_the_server_too(served: Make) -> None:
    shown = {
        row["key"]: row for row in console(served(sections={"server": {}})).execute("SHOW CONFIG").fetchall()
    }
    assert shown["server.login_timeout"]["default"] == shown["server.login_timeout"]["value"] == "1m"
    assert not any(key.startswith(("ai_cache", "graphql")) for key in shown)


def test_one_who_waits_too_long_in_a_pause_is_told_so(served: Make) -> None:
    made = served(helios_pool_timeout=0.2)
    admin, client = console(made), made.connect()
    admin.execute("PAUSE")
    with pytest.raises(
        psycopg.errors.TooManyConnections, match=r"is paused, and was not resumed within 0\.2"
    ) as told:
        client.execute("SELECT 1")
    assert "RESUME" in str(told.value)
    admin.execute("RESUME")
    assert client.execute("SELECT 1").fetchone() == (1,)


def test_one_who_waits_in_a_pause_may_leave(served: Make) -> None:
    made = served("session")
    admin, client = console(made), made.connect()
    admin.execute("PAUSE")
    asking = threading.Thread(target=lambda: _ignore(lambda: client.execute("SELECT 1")))
    asking.start()
    while {row["state"] for row in admin.execute("SHOW CLIENTS").fetchall()} != {"waiting", "active"}:
        pass
    admin.execute(f"KILL {client.info.backend_pid}")
    asking.join(20)
    admin.execute("RESUME")
    assert made.connect().execute("SELECT 1").fetchone() == (1,)


def _ignore(act: Callable[[], object]) -> None:
    with suppress(psycopg.Error):
        act()


def test_kill_hangs_up_on_one_client_or_on_those_of_a_database(served: Make) -> None:
    made = served()
    admin = console(made)
    a, b, c = (made.connect() for _ in range(3))
    admin.execute(f"KILL {a.info.backend_pid}")
    with pytest.raises(psycopg.errors.AdminShutdown):
        a.execute("SELECT 1")
    assert b.execute("SELECT 1").fetchone() == (1,)
    admin.execute(f'KILL "{a.info.dbname}"')
    for client in (b, c):
        with pytest.raises(psycopg.errors.AdminShutdown):
            client.execute("SELECT 1")
    assert made.connect().execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_kill_closes_the_socket_of_a_client_that_does_not_read(served: Make, mode: str) -> None:
    made = served(mode, helios_server_connections=1)
    admin = console(made)
    with Wire(made.url) as client:
        client.send(frontend.query(b"SELECT repeat('x', 1000) FROM generate_series(1, 100000)"))
        (link,) = [link for link in made.serving._service.links.values() if link.served]
        wait_until(lambda: link.choked, 10, "it does not read")
        admin.execute(f"KILL {link.pid}")
        wait_until(lambda: link not in made.serving._service._everybody, 10, "its socket is closed")
        assert made.settles()
        assert made.connect().execute("SELECT 1").fetchone() == (1,)


def test_a_disabled_database_takes_nobody_new(served: Make) -> None:
    made = served()
    admin, client = console(made), made.connect()
    admin.execute(f'DISABLE "{client.info.dbname}"')
    with pytest.raises(psycopg.OperationalError, match="takes no new clients"):
        made.connect()
    assert client.execute("SELECT 1").fetchone() == (1,)
    admin.execute(f'ENABLE "{client.info.dbname}"')
    assert made.connect().execute("SELECT 1").fetchone() == (1,)


def test_a_database_is_shown_that_was_disabled_or_paused_before_anybody_asked_for_it(served: Make) -> None:
    made = served(helios_server_connections=7)
    admin = console(made)
    given = psycopg.conninfo.conninfo_to_dict(made.dsn)
    for command, orders in (("DISABLE", (0, 1)), ("PAUSE", (1, 1)), ("ENABLE", (1, 0))):
        admin.execute(f"{command} nowhere")
        (row,) = admin.execute("SHOW DATABASES").fetchall()
        assert (row["name"], row["paused"], row["disabled"]) == ("nowhere", *orders)
    assert (row["force_user"], row["node"], row["pool_mode"]) == (given["user"], "primary", "transaction")
    assert (row["host"], row["port"]) == (given["host"], int(given["port"]))
    assert (row["pool_size"], row["current_connections"]) == (7, 0)
    assert admin.execute("SHOW POOLS").fetchall() == []
    admin.execute("RESUME nowhere")
    assert admin.execute("SHOW DATABASES").fetchall() == []


def test_a_disabled_database_with_clients_is_shown_once(served: Make) -> None:
    made = served()
    admin, client = console(made), made.connect()
    admin.execute(f'DISABLE "{client.info.dbname}"')
    (row,) = admin.execute("SHOW DATABASES").fetchall()
    assert (row["name"], row["disabled"]) == (client.info.dbname, 1)


def test_reconnect_replaces_server_connections(served: Make) -> None:
    made = served(helios_server_connections=1)
    admin, client = console(made), made.connect()
    before = client.execute("SELECT pg_backend_pid()").fetchone()
    admin.execute("RECONNECT")
    assert client.execute("SELECT pg_backend_pid()").fetchone() != before


# -- rights ------------------------------------------------------------------------------------------

USERS = {
    "user": [{"name": name, "verifier": "plain:secret"} for name in ("boss", "watch", "postgres")],
    "server": {"admin_users": ["boss"], "stats_users": ["watch"]},
}


def test_users_are_asked_for_their_password_and_only_admin_users_act(served: Make) -> None:
    made = served(sections=USERS)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        console(made, user="boss", password="wrong")
    with pytest.raises(psycopg.OperationalError, match="may not use the console"):
        console(made, user="postgres", password="secret")
    watch, boss = (
        console(made, user="watch", password="secret"),
        console(made, user="boss", password="secret"),
    )
    assert watch.execute("SHOW POOLS").fetchall() == []
    for command in ("PAUSE", "KILL postgres", "SHUTDOWN", "RELOAD", "DISABLE postgres"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            watch.execute(command)
    boss.execute("PAUSE")
    boss.execute("RESUME")


def test_without_users_a_local_client_looks_and_the_own_account_acts(served: Make) -> None:
    made = served(addresses=["127.0.0.1:0"])
    admin = console(made)  # over TCP nobody knows whose it is
    assert admin.execute("SHOW POOLS").fetchall() == []
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        admin.execute("PAUSE")


# -- words -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("show pools", Command("SHOW", "POOLS")),
        ("  SHOW\tstats ; ", Command("SHOW", "STATS")),
        ('KILL "a b""c"', Command("KILL", 'a b"c')),
        ("kill 12", Command("KILL", "12")),
        ("PAUSE", Command("PAUSE")),
        ("pause shop;", Command("PAUSE", "shop")),
        ("shutdown wait", Command("SHUTDOWN", "WAIT")),
        ("SHUTDOWN WAIT_FOR_CLIENTS", Command("SHUTDOWN", "WAIT")),
        ("shutdown", Command("SHUTDOWN")),
        (" ;", Command("EMPTY")),
    ],
)
def test_commands_are_read(text: str, command: Command) -> None:
    assert parse(text) == command


@pytest.mark.parametrize("text", ['KILL "', "SHOW POOLS;SHOW POOLS", 'PAUSE "a', "DISABLE", "\0", "'"])
def test_what_is_no_command_is_refused_and_ends_nothing(text: str) -> None:
    with pytest.raises(ProtocolViolation) as refusal:
        parse(text)
    assert not refusal.value.fatal
