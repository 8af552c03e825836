"""Sections that later versions act on. They are typed today, so that one file serves every version; asking
for one of them is refused (see support.py), never ignored."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, field_validator

from heliosproxy.config.base import Count, Name, Section, Share, Strings, distinct
from heliosproxy.config.units import GB, MB, Seconds, SecondsOrZero, Size, SizeOrZero


class GraphQL(Section):
    """``[graphql]``: ``max_depth`` bounds the nesting of a request."""

    enabled: bool = False
    endpoint: Name = "/graphql"
    introspection: bool = True
    max_depth: Count = 10


class WasmPlugin(Section):
    """``[plugins.wasm]`` or one ``[[plugins.wasm]]``: a module and the hook it is called at."""

    name: Name
    path: Name
    hook: Name


def _one_or_many(value: object) -> object:
    return (value,) if isinstance(value, dict) else value


class Plugins(Section):
    """``[plugins]``."""

    wasm: Annotated[tuple[WasmPlugin, ...], BeforeValidator(_one_or_many)] = ()

    @field_validator("wasm")
    @classmethod
    def _distinct(cls, value: tuple[WasmPlugin, ...]) -> tuple[WasmPlugin, ...]:
        return distinct(value, "name")


class Workload(Section):
    """``[routing.workload]``: patterns of statements, and the node each group goes to. None = no target."""

    enabled: bool = False
    oltp_patterns: Strings = ()
    oltp_target: Name | None = None
    olap_patterns: Strings = ()
    olap_target: Name | None = None
    vector_patterns: Strings = ()
    vector_target: Name | None = None


class Routing(Section):
    """``[routing]``. Its presence asks for it."""

    schema_aware: bool = True
    workload: Workload = Workload()


class CircuitBreaker(Section):
    """``[circuit_breaker]``: failures in a row that open it, and how it is tried again."""

    enabled: bool = False
    failure_threshold: Count = 5
    reset_timeout: Seconds = 30.0
    half_open_requests: Count = 3


class AiCache(Section):
    """``[ai_cache]``."""

    enabled: bool = False
    conversation_context_ttl: Seconds = 1800.0
    conversation_context_size: Size = 512 * MB
    rag_chunk_cache_size: Size = 2 * GB
    rag_chunk_ttl: Seconds = 3600.0
    semantic_cache_enabled: bool = False
    similarity_threshold: Share = 0.95


class Journal(Section):
    """``[transaction_replay.journal]``: what one transaction may record before it goes on unprotected."""

    max_entries: Count = 10_000
    max_size: Size = 64 * MB


class TransactionReplay(Section):
    """``[transaction_replay]``. ``max_wal_lag_bytes = 0``: replay begins when nothing acknowledged lacks."""

    enabled: bool = False
    verify_results: bool = True
    statement_timeout_ms: Count = 30_000
    retry_on_error: bool = True
    max_retries: Count = 3
    wait_for_wal_sync: bool = True
    max_wal_lag_bytes: SizeOrZero = 0
    journal: Journal = Journal()


class SessionMigration(Section):
    """``[session_migration]``: a session beyond ``max_sessions`` is served, unprotected."""

    enabled: bool = False
    max_sessions: Count = 10_000
    migrate_temp_tables: bool = False


def _check_address(address: str) -> None:
    folder = address.startswith("/")
    _, colon, port = address.rpartition(":")
    if folder and not colon:
        return
    if not colon or (not folder and "/" in address) or not (port.isascii() and port.isdecimal()):
        raise ValueError(
            f'"{address}" is no address: write host:port, as "127.0.0.1:6432", or the whole path of a folder for a'
            ' Unix socket, as "/run/heliosproxy"'
        )
    if len(port) > 5 or int(port) > 65535:
        raise ValueError(f'"{address}": {port} is no port: there are 1 to 65535')


class Server(Section):
    """``[server]``: the PostgreSQL wire face; concerns ``heliosproxy serve`` alone.

    Attributes:
        listen: ``host:port`` pairs and folders of Unix sockets; default ``127.0.0.1:6432``.
        workers: processes that serve; default 1.
        tls_cert, tls_key: PEM files of the listeners; None (default) = no TLS.
        tls_required: clients without TLS are refused, Unix sockets excepted; default false.
        auth_query: SQL that finds a client's verifier; None (default) = only ``[[user]]``.
        admin_users: users who may do everything on the console; default none.
        stats_users: users who may look there; default none.
        drain_timeout: seconds that clients have to end their transactions when the server, or a worker, ends; default
            30.
        login_timeout: seconds for a whole login, TLS included; default 60.
        idle_timeout: seconds a client may be idle outside of a transaction; default 0 = for ever.
        idle_transaction_timeout: seconds a client may be idle within a transaction; default 0 = for ever.
        query_timeout: seconds a server may work on a statement, or on a pipeline up to its Sync; default 0 = for
            ever.
        max_user_connections, max_database_connections: clients of one user, or of one database, at a time; None
            (default) = unlimited. ``[[user]]`` may have a limit of its own.
        max_address_connections: clients from one address at a time, those that log in included; None (default) =
            unlimited. Unix sockets have no address.
        tcp_keepalive: whether the system asks idle clients on TCP whether they are there; default true.
        tcp_keepalive_idle: seconds of silence before it asks; default 60.
        tcp_keepalive_interval: seconds until it asks again; default 10.
        tcp_keepalive_count: questions without an answer after which the client is gone; default 3.
    """

    listen: Strings = ("127.0.0.1:6432",)
    workers: Count = 1
    tls_cert: Name | None = None
    tls_key: Name | None = None
    tls_required: bool = False
    auth_query: Name | None = None
    drain_timeout: SecondsOrZero = 30.0
    admin_users: Strings = ()
    stats_users: Strings = ()
    login_timeout: Seconds = 60.0
    idle_timeout: SecondsOrZero = 0.0
    idle_transaction_timeout: SecondsOrZero = 0.0
    query_timeout: SecondsOrZero = 0.0
    max_user_connections: Count | None = None
    max_database_connections: Count | None = None
    max_address_connections: Count | None = None
    tcp_keepalive: bool = True
    tcp_keepalive_idle: Seconds = 60.0
    tcp_keepalive_interval: Seconds = 10.0
    tcp_keepalive_count: Count = 3

    @field_validator("listen")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError('at least one address is wanted, as "127.0.0.1:6432"')
        for address in value:
            _check_address(address)
        return value


class Http(Section):
    """``[http]``: GraphQL, console, metrics, health; concerns ``heliosproxy serve`` alone."""

    listen: Name = "127.0.0.1:8080"
