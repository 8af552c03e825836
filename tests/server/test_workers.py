"""Several processes on one address: what one does the others know, and what one dies of nobody else notices."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.server.processes import Process, Start, ready

SOON = 20.0


class Served:
    """One server of several workers, its clients over TCP, and its console."""

    def __init__(self, process: Process, dsn: str, folder: Path) -> None:
        self.process = process
        self.dsn = dsn
        address, _ = ready(process)
        self.port = int(address.rpartition(":")[2])
        self.folder = folder
        given = conninfo_to_dict(dsn)
        self.names: dict[str, Any] = {"user": given["user"], "dbname": given["dbname"]}
        self.clients: list[psycopg.Connection[Any]] = []

    def connect(self, **keywords: Any) -> psycopg.Connection[Any]:
        names = {"autocommit": True, "connect_timeout": 10, **self.names, **keywords}
        self.clients.append(psycopg.connect(host="127.0.0.1", port=self.port, **names))
        return self.clients[-1]

    def console(self, command: str) -> list[dict[str, Any]]:
        """What the console says, on a connection of its own."""
        with psycopg.connect(
            host=str(self.folder), port=5432, user="admin", dbname="heliosproxy", autocommit=True
        ) as conn:
            cursor = conn.cursor(row_factory=psycopg.rows.dict_row).execute(command)
            return cursor.fetchall() if cursor.description else []

    def workers(self) -> list[dict[str, Any]]:
        return self.console("SHOW WORKERS")

    def worker_of(self, client: psycopg.Connection[Any]) -> int:
        rows = [row for row in self.console("SHOW CLIENTS") if row["id"] == client.info.backend_pid]
        (row,) = rows
        return int(row["worker"])

    def one_each(self) -> list[psycopg.Connection[Any]]:
        """A client of every worker."""
        found: dict[int, psycopg.Connection[Any]] = {}
        wanted = len(self.workers())
        while len(found) < wanted:
            client = self.connect()
            found.setdefault(self.worker_of(client), client)
        return [found[number] for number in sorted(found)]

    def direct(self) -> psycopg.Connection[Any]:
        self.clients.append(psycopg.connect(self.dsn, autocommit=True))
        return self.clients[-1]


def soon(true: Callable[[], bool]) -> bool:
    """Whether *true* becomes so, within a time that is ample."""
    end = time.monotonic() + SOON
    pause = threading.Event()
    while not (result := true()) and time.monotonic() < end:
        pause.wait(0.02)
    return result


@pytest.fixture
def workers(start: Start, dsn: str, tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """``workers(3, "--cache", HELIOSPROXY_…="…")``: a server of three workers, in transaction mode."""
    made: list[Served] = []

    def make(number: int = 2, *arguments: str, **environment: str) -> Served:
        listen = ("--listen", "127.0.0.1:0", "--listen", str(tmp_path))
        mode = () if "--mode" in arguments or "--config" in arguments else ("--mode", "transaction")
        source = () if "--config" in arguments else (dsn,)
        process = start(*source, *listen, *mode, "--workers", str(number), *arguments, **environment)
        made.append(Served(process, dsn, tmp_path))
        return made[-1]

    yield make
    for served in made:
        for client in served.clients:
            client.close()


def test_every_worker_takes_its_part_of_the_clients(workers: Callable[..., Served]) -> None:
    served = workers(3)
    assert len(served.one_each()) == 3


def test_a_write_through_one_worker_is_seen_through_the_others(workers: Callable[..., Served]) -> None:
    served = workers(2, "--cache")
    a, b = served.one_each()
    a.execute("CREATE TABLE counted (n int); INSERT INTO counted VALUES (0)")
    query = "SELECT n FROM counted"
    for n in range(200):
        writer, reader = (a, b) if n % 2 else (b, a)
        assert reader.execute(query).fetchone() == (n,)
        assert reader.execute(query).fetchone() == (n,)  # this one from memory
        writer.execute(f"UPDATE counted SET n = {n + 1}")
    numbers = {row["name"]: row["value"] for row in served.console("SHOW CACHE")}
    assert int(numbers["hits"]) >= 100
    assert numbers["scope"] == "proxy"


def test_ddl_through_one_worker_lets_the_others_prepare_anew(workers: Callable[..., Served]) -> None:
    served = workers(2)
    a, b = served.one_each()
    a.execute("CREATE TABLE wide (x int); INSERT INTO wide VALUES (1)")
    for client in (a, b):
        for _ in range(7):  # prepared from the fifth on
            assert client.execute("SELECT * FROM wide", prepare=True).fetchone() == (1,)
    a.execute("ALTER TABLE wide ADD y int DEFAULT 2")
    assert soon(lambda: _columns(b) == 2)


def _columns(client: psycopg.Connection[Any]) -> int:
    try:
        row = client.execute("SELECT * FROM wide", prepare=True).fetchone()
    except psycopg.errors.FeatureNotSupported:  # its worker has not heard of it yet
        return 0
    return len(row or ())


def test_a_cancel_request_finds_its_client_whichever_worker_it_reaches(
    workers: Callable[..., Served],
) -> None:
    served = workers(2)
    for client in served.one_each():
        for _ in range(6):  # each by a connection of its own, which any worker may get
            done: list[BaseException] = []

            def run(client: psycopg.Connection[Any] = client, done: list[BaseException] = done) -> None:
                try:
                    client.execute("SELECT pg_sleep(60)")
                except psycopg.Error as error:
                    done.append(error)

            thread = threading.Thread(target=run)
            thread.start()
            assert soon(lambda: sleeping(served) == 1)
            client.cancel_safe()
            thread.join(SOON)
            assert isinstance(done[0], psycopg.errors.QueryCanceled)


def sleeping(served: Served) -> int:
    with psycopg.connect(served.dsn, autocommit=True) as conn:
        row = conn.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'"
        ).fetchone()
    assert row is not None
    return int(row[0])


def test_when_a_worker_is_killed_the_others_serve_on_and_nothing_is_stale(
    workers: Callable[..., Served],
) -> None:
    served = workers(2, "--cache", HELIOSPROXY_CACHE__POLL_INTERVAL="0.2")
    a, b = served.one_each()
    a.execute("CREATE TABLE survived (n int); INSERT INTO survived VALUES (0)")
    victim = next(row["pid"] for row in served.workers() if row["worker"] == served.worker_of(a))
    query = "SELECT n FROM survived"
    stop = threading.Event()
    failures: list[BaseException] = []

    def load() -> None:
        while not stop.is_set():
            try:
                b.execute(query).fetchone()
            except psycopg.Error as error:
                failures.append(error)
                return

    thread = threading.Thread(target=load)
    thread.start()
    a.autocommit = False
    a.execute("UPDATE survived SET n = 1")  # its relation is in flux, for good as far as the dead can tell
    os.kill(victim, signal.SIGKILL)
    began = time.monotonic()
    served.connect().execute("SELECT 1")
    assert time.monotonic() - began < 1.0
    with pytest.raises(psycopg.OperationalError):
        a.execute("SELECT 1")
    assert soon(lambda: len(served.workers()) == 2)
    clients = served.one_each()
    for n in range(2, 30):
        clients[n % 2].execute(f"UPDATE survived SET n = {n}")
        for client in clients:
            assert client.execute(query).fetchone() == (n,)
    stop.set()
    thread.join()
    assert not failures
    # What it left in flux is found and ended: the table is cached again.
    assert soon(lambda: _hits(served, clients[0], query) > 0)


def _hits(served: Served, client: psycopg.Connection[Any], query: str) -> int:
    def hits() -> int:
        return next(int(row["value"]) for row in served.console("SHOW CACHE") if row["name"] == "hits")

    before = hits()
    for _ in range(5):
        client.execute(query)
    return hits() - before


def test_a_restart_loses_no_idle_client(workers: Callable[..., Served]) -> None:
    served = workers(2)
    clients = [served.connect() for _ in range(10)]
    for n, client in enumerate(clients):
        client.execute(f"SET work_mem TO '{64 + n}kB'")
        client.prepare_threshold = 0
        assert client.execute("SELECT %s::int", [n]).fetchone() == (n,)
    busy = served.connect(autocommit=False)
    busy.execute("CREATE TABLE begun (n int)")
    before = {row["pid"] for row in served.workers()}
    served.console("RESTART")
    assert soon(
        lambda: sum(row["generation"] == 2 for row in served.workers() if row["state"] == "serving") == 2
    )
    # The one with an open transaction is still served by its old worker, and moves when that is over.
    busy.execute("INSERT INTO begun VALUES (1)")
    busy.commit()
    assert soon(lambda: not before & {row["pid"] for row in served.workers()})
    assert busy.execute("SELECT n FROM begun").fetchone() == (1,)
    for n, client in enumerate(clients):
        assert client.execute("SHOW work_mem").fetchone() == (f"{64 + n}kB",)
        assert client.execute("SELECT %s::int", [n]).fetchone() == (n,)
        client.execute("RESET work_mem")
    assert len(served.console("SHOW CLIENTS")) == 12


def test_what_a_driver_was_told_holds_behind_a_restart(workers: Callable[..., Served]) -> None:
    served = workers(2)
    client, other = served.connect(), served.connect()
    other.execute("CREATE TABLE told (n int)")
    client.pgconn.prepare(b"t", b"SELECT * FROM told")
    client.pgconn.describe_prepared(b"t")
    before = {row["pid"] for row in served.workers()}
    served.console("RESTART")
    assert soon(lambda: not any(map(_there, before)))
    other.execute("ALTER TABLE told ALTER n TYPE text")
    result = client.pgconn.exec_prepared(b"t", None)
    assert result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) == b"0A000"


def _there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_clients_that_work_all_the_time_survive_restarts(workers: Callable[..., Served]) -> None:
    served = workers(2)
    stop, failures, counts = threading.Event(), [], []

    def load(n: int) -> None:
        client, count = served.connect(), 0
        try:
            while not stop.is_set():
                assert client.execute("SELECT %s::int, %s::text", [n, str(count)]).fetchone() == (
                    n,
                    str(count),
                )
                count += 1
        except Exception as error:  # noqa: BLE001 - looked at by the test
            failures.append(error)
        counts.append(count)

    threads = [threading.Thread(target=load, args=[n]) for n in range(6)]
    for thread in threads:
        thread.start()
    for generation in (2, 3):
        served.console("RESTART")
        assert soon(lambda: [row["generation"] for row in served.workers()] == [generation] * 2)  # noqa: B023
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert min(counts) > 10


def test_sighup_reads_the_file_again_and_idle_clients_notice_nothing(
    workers: Callable[..., Served], dsn: str, tmp_path: Path
) -> None:
    file = tmp_path / "heliosproxy.toml"
    text = f'[pool]\nmode = "transaction"\ntimeout = 7\n[[node]]\nname = "primary"\ndsn = "{dsn}"\n'
    file.write_text(text)
    served = workers(2, "--config", str(file))
    client = served.connect()
    client.execute("SET work_mem TO '99kB'")
    assert _config(served)["pool.timeout"] == "7s"
    file.write_text(text.replace("timeout = 7", "timeout = 8"))
    served.process.send_signal(signal.SIGHUP)
    assert soon(lambda: [row["generation"] for row in served.workers()] == [2, 2])
    assert _config(served)["pool.timeout"] == "8s"
    assert client.execute("SHOW work_mem").fetchone() == ("99kB",)
    assert served.console("RELOAD") == []
    # What cannot change is refused by name, and so is a file that cannot be read; nothing changes then.
    file.write_text(text + "[cache]\nenabled = true\n")
    with pytest.raises(psycopg.Error, match=r"cache\.enabled cannot change while the server runs"):
        served.console("RELOAD")
    file.write_text("[pool]\nmod = 1\n")
    with pytest.raises(psycopg.Error, match=r"pool\.mod"):
        served.console("RELOAD")
    assert _config(served)["pool.timeout"] == "8s"
    assert client.execute("SHOW work_mem").fetchone() == ("99kB",)


def _config(served: Served) -> dict[str, str]:
    return {row["key"]: row["value"] for row in served.console("SHOW CONFIG")}


def test_all_workers_together_keep_to_the_cap_and_one_may_have_it_all(workers: Callable[..., Served]) -> None:
    served = workers(2, HELIOSPROXY_POOL__SERVER_CONNECTIONS="4")
    watcher = served.direct()
    most = [0]

    def backends() -> int:
        row = watcher.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            " AND application_name <> 'heliosproxy control'"
        ).fetchone()
        assert row is not None
        most[0] = max(most[0], int(row[0]))
        return int(row[0])

    first, *_ = served.one_each()
    home = served.worker_of(first)
    crowd: list[psycopg.Connection[Any]] = []
    while len(crowd) < 6:
        client = served.connect()
        if served.worker_of(client) == home:
            crowd.append(client)
    threads = [
        threading.Thread(target=lambda c=client: c.execute("SELECT pg_sleep(1)"), daemon=True)
        for client in crowd
    ]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    assert soon(lambda: backends() == 4)
    while any(thread.is_alive() for thread in threads) and time.monotonic() - began < SOON:
        backends()
    assert most[0] == 4


def test_who_finds_a_worker_full_is_told_that_it_is_that_workers_share(
    workers: Callable[..., Served],
) -> None:
    served = workers(2, HELIOSPROXY_POOL__SERVER_CONNECTIONS="1", HELIOSPROXY_POOL__TIMEOUT="1")
    served.connect(autocommit=False).execute("SELECT 1")
    numbers = "".join(str(row["worker"]) for row in served.workers())
    # The other one has no server connection at all: who comes to it learns so at the login.
    told = rf"\(worker [{numbers}]'s share\) has (0 of 0|1 of 1) leased"
    with pytest.raises(psycopg.OperationalError, match=told):
        served.connect().execute("SELECT 1")


def test_where_one_worker_has_all_nobody_hears_of_shares(workers: Callable[..., Served]) -> None:
    served = workers(1, HELIOSPROXY_POOL__SERVER_CONNECTIONS="1", HELIOSPROXY_POOL__TIMEOUT="1")
    served.connect(autocommit=False).execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match=r"\(wire\) has 1 of 1 leased"):
        served.connect().execute("SELECT 1")


def test_workers_end_when_their_supervisor_is_gone(workers: Callable[..., Served]) -> None:
    served = workers(2)
    pids = [row["pid"] for row in served.workers()]
    served.process.kill()
    served.process.wait(SOON)
    assert soon(lambda: not any(_runs(pid) for pid in pids))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_port_that_somebody_listens_on_is_refused(
    workers: Callable[..., Served], start: Start, dsn: str
) -> None:
    served = workers(2)
    other = start(dsn, "--listen", f"127.0.0.1:{served.port}", "--workers", "2")
    _, errors = other.communicate(timeout=SOON)
    assert other.returncode == 2
    assert "in use" in errors


def test_limits_on_clients_hold_over_all_workers(workers: Callable[..., Served]) -> None:
    served = workers(2, HELIOSPROXY_SERVER__MAX_USER_CONNECTIONS="24")
    served.one_each()
    clients = served.clients
    while len(clients) < 24:
        served.connect()
    for _ in range(4):  # whichever worker it comes to
        with pytest.raises(psycopg.OperationalError, match="has 24 clients connected"):
            served.connect()
    # A client that moves keeps its place, one that goes frees it, and so does a worker that dies.
    served.console("RESTART")
    assert soon(lambda: {row["generation"] for row in served.workers()} == {2})
    with pytest.raises(psycopg.OperationalError, match="has 24 clients connected"):
        served.connect()
    clients.pop().close()
    assert soon(lambda: _connects(served))
    victim = served.workers()[0]
    os.kill(victim["pid"], signal.SIGKILL)
    assert soon(lambda: _connects(served))


def _connects(served: Served) -> bool:
    try:
        served.connect()
    except psycopg.OperationalError:
        return False
    return True


def test_a_worker_that_hangs_is_left_out_and_can_be_replaced(workers: Callable[..., Served]) -> None:
    served = workers(2, HELIOSPROXY_SERVER__DRAIN_TIMEOUT="0.2")
    conn = psycopg.connect(
        host=str(served.folder), port=5432, user="admin", dbname="heliosproxy", autocommit=True
    )
    served.clients.append(conn)
    own = next(row[-2] for row in conn.execute("SHOW CLIENTS").fetchall() if row[2] == "heliosproxy")
    stuck = next(row for row in served.workers() if row["worker"] != own)
    os.kill(stuck["pid"], signal.SIGSTOP)
    notices: list[str] = []
    conn.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
    shown = {row[-2] for row in conn.execute("SHOW CLIENTS").fetchall()}
    assert shown == {own}
    assert notices == [f"worker {stuck['worker']}: it did not answer within 2 seconds"]
    conn.execute("RESTART")
    assert soon(lambda: not _runs(stuck["pid"]))
    assert soon(lambda: {row[3] for row in conn.execute("SHOW WORKERS").fetchall()} == {"serving"})
