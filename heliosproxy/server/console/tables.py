"""What SHOW shows: columns, and how rows come out of what the workers say.

Where PgBouncer has a table of the name, its columns come first, in its order, so that what reads PgBouncer reads us;
those that mean nothing here are 0. Times are seconds or microseconds as it has them.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Row = list[Any]
Said = Mapping[int, Any]
"""What each worker said, by its number."""


class Table:
    """One table.

    Attributes:
        columns: names and types: ``text``, ``int8``, ``int4``.
        ask: what the workers are asked for it; "" = nobody is.
        rows: makes its rows of what they said.
    """

    def __init__(self, columns: str, ask: str, rows: Callable[[Said], Iterable[Row]]) -> None:
        named = [column.partition(":") for column in columns.split()]
        self.columns = [(name, kind or "int8") for name, _, kind in named]
        self.ask = ask
        self.rows = rows


def _pools(said: Said) -> Iterable[Row]:
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for pools in said.values():
        for pool in pools:
            found[pool["database"], pool["user"]].append(pool)
    for (database, user), pools in sorted(found.items()):
        total = _summed(pools)
        wait = max(pool["longest_wait"] for pool in pools)
        yield [
            database, user, total["clients"] - total["requests_waiting"], total["requests_waiting"], 0, 0,
            total["pool_size"] - total["pool_available"] - total["connecting"], 0, 0, total["pool_available"],
            0, 0, total["connecting"], int(wait), int(wait % 1 * 1e6), pools[0]["mode"],
        ]  # fmt: skip


def _summed(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    total: dict[str, int] = defaultdict(int)
    for row in rows:
        for name, value in row.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                total[name] += int(value)
    return total


def _stats(said: Said) -> Iterable[Row]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for pools in said.values():
        for pool in pools:
            found[pool["database"]].append(pool)
    for database, pools in sorted(found.items()):
        total = _summed(pools)
        seconds = max(1.0, max(pool["age"] for pool in pools))
        leases, queries = max(1, total["requests_num"]), max(1, total["queries"])
        used, waited = total["usage_ms"] * 1000, total["requests_wait_ms"] * 1000
        yield [
            database, total["requests_num"], total["requests_num"], total["queries"], total["received"],
            total["sent"], used, used, waited,
            int(total["requests_num"] / seconds), int(total["requests_num"] / seconds),
            int(total["queries"] / seconds), int(total["received"] / seconds), int(total["sent"] / seconds),
            used // leases, used // queries, waited // leases, total["hits"],
        ]  # fmt: skip


def _databases(said: Said) -> Iterable[Row]:
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for pools in said.values():
        for pool in pools:
            found[pool["database"], pool["node"]].append(pool)
    for (database, node), pools in sorted(found.items()):
        total = _summed(pools)
        pool = pools[0]
        yield [
            database, pool["host"], pool["port"], database, pool["user"], total["pool_max"], total["pool_min"],
            0, pool["mode"], 0, total["pool_size"], int(pool["paused"]), int(pool["disabled"]), node,
        ]  # fmt: skip


def _clients(said: Said) -> Iterable[Row]:
    for worker, clients in said.items():
        for client in clients:
            host, port = _address(client["address"])
            yield [
                "C", client["user"], client["database"], "none", client["state"], host, port, "", 0,
                _moment(client["connected"]), "", 0, 0, 0, f"{client['pid']:x}",
                f"{client['server']:x}" if client["server"] else "", 0, client["tls"],
                client["application_name"], client["prepared"], client["pid"], worker, ",".join(client["pins"]),
            ]  # fmt: skip


def _servers(said: Said) -> Iterable[Row]:
    for worker, servers in said.items():
        for server in servers:
            host, port = _address(server["address"])
            yield [
                "S", server["user"], server["database"], "none", server["state"], host, port, "", 0,
                _moment(time.time() - server["age"]), "", 0, 0, 0, f"{server['pid']:x}",
                f"{server['client']:x}" if server["client"] else "", server["pid"],
                "yes" if server["tls"] else "", "", server["prepared"], server["pid"], worker, server["uses"],
            ]  # fmt: skip


def _cache(said: Said) -> Iterable[Row]:
    total = _summed(numbers["cache"] for numbers in said.values())
    scopes = {numbers["cache"]["scope"] for numbers in said.values()}
    yield ["scope", ", ".join(sorted(scopes))]
    for name, value in sorted(total.items()):
        yield [name, str(value)]
    for kind in ("bypasses", "refused"):
        for reason, count in sorted(_summed(numbers["cache"][kind] for numbers in said.values()).items()):
            yield [f"{kind}: {reason}", str(count)]


def _pins(said: Said) -> Iterable[Row]:
    counts = _summed(numbers["pins"] for numbers in said.values())
    yield from ([reason, count] for reason, count in sorted(counts.items()) if reason != "session")


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return (host, int(port)) if host and port.isdigit() else (text, 0)


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


_CONNECTION = (
    "type:text user:text database:text replication:text state:text addr:text port:int4 local_addr:text"
    " local_port:int4 connect_time:text request_time:text wait:int4 wait_us:int4 close_needed:int4 ptr:text"
    " link:text remote_pid:int4 tls:text application_name:text prepared_statements:int4 id:int4 worker:int4"
)

TABLES = {
    "POOLS": Table(
        "database:text user:text cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active"
        " sv_active_cancel sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait:int4 maxwait_us:int4"
        " pool_mode:text",
        "pools",
        _pools,
    ),
    "STATS": Table(
        "database:text total_server_assignment_count total_xact_count total_query_count total_received total_sent"
        " total_xact_time total_query_time total_wait_time avg_server_assignment_count avg_xact_count avg_query_count"
        " avg_recv avg_sent avg_xact_time avg_query_time avg_wait_time total_cache_hits",
        "pools",
        _stats,
    ),
    "DATABASES": Table(
        "name:text host:text port:int4 database:text force_user:text pool_size:int4 min_pool_size:int4"
        " reserve_pool:int4 pool_mode:text max_connections:int4 current_connections:int4 paused:int4 disabled:int4"
        " node:text",
        "databases",
        _databases,
    ),
    "CLIENTS": Table(f"{_CONNECTION} pins:text", "clients", _clients),
    "SERVERS": Table(f"{_CONNECTION} uses", "servers", _servers),
    "CACHE": Table("name:text value:text", "numbers", _cache),
    "PINS": Table("reason:text count", "numbers", _pins),
}
