"""The sections that work in this version: ``[pool]``, ``[cache]``, ``[sql]``, ``[[node]]``.

Durations are seconds and sizes are bytes once loaded, however they were written.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PlainSerializer, ValidationInfo, field_validator

from heliosproxy.config.base import Count, CountOrZero, Name, Section, Share, Strings, distinct
from heliosproxy.config.masking import Dsn, check_dsn
from heliosproxy.config.units import MB, Seconds, SecondsOrZero, Size

PoolMode = Literal["session", "transaction", "statement"]


class Pool(Section):
    """``[pool]``: how logical connections share the real ones.

    Attributes:
        mode: how long a logical connection keeps a server connection: until it is closed, until its
            transaction ends, or for one statement. Default ``"session"``, which changes nothing else.
        max_connections: logical connections open at a time; None (default) = unlimited.
        server_connections: real connections open at a time, over all pools of the proxy. Not given: 50 in
            transaction and statement mode, *max_connections* in session mode. None once loaded = uncapped.
        min_size: server connections kept although idle; default 0.
        timeout: seconds to wait for a server connection; default 30, 0 = do not wait.
        max_waiting: how many may wait at a time; default 0 = unlimited.
        max_idle: seconds an idle server connection is kept; default 10 minutes.
        max_lifetime: seconds after which a server connection is replaced, less a random part of up to 10 % so
            that not all go at once; default 1 hour.
        check: whether a server connection is tested before it is leased; default true.
        reset: SQL that a server connection runs when session mode returns it; None (default) =
            ``DISCARD ALL``.
    """

    mode: PoolMode = "session"
    max_connections: Count | None = None
    server_connections: Count | None = Field(default=None, validate_default=True)
    min_size: CountOrZero = 0
    timeout: SecondsOrZero = 30.0
    max_waiting: CountOrZero = 0
    max_idle: Seconds = 600.0
    max_lifetime: Seconds = 3600.0
    check: bool = True
    reset: Name | None = None

    @field_validator("server_connections")
    @classmethod
    def _default_by_mode(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None:
            return value
        if info.data.get("mode") == "session":
            limit: int | None = info.data.get("max_connections")
            return limit
        return 50

    @field_validator("min_size")
    @classmethod
    def _within_cap(cls, value: int, info: ValidationInfo) -> int:
        cap = info.data.get("server_connections")
        if cap is not None and value > cap:
            raise ValueError(f"{value} is more than pool.server_connections, which is {cap}")
        return value


class L1(Section):
    """``[cache.l1]``: the cache in memory.

    Attributes:
        size: bytes of all entries together; default 256MB.
        ttl: seconds after which an entry is no longer used, whatever is known of its tables; default 60.
        eviction: who goes when it is full: ``"lru"`` (default) the least recently used, ``"lfu"`` the least
            often used.
    """

    size: Size = 256 * MB
    ttl: Seconds = 60.0
    eviction: Literal["lru", "lfu"] = "lru"


class L2(Section):
    """``[cache.l2]``: the cache shared by several proxies. Its presence asks for it.

    Attributes:
        type: ``"redis"``.
        hosts: ``host:port`` of each server.
        ttl: seconds after which an entry is no longer used; default 5 minutes.
    """

    type: Literal["redis"] = "redis"
    hosts: Strings = ()
    ttl: Seconds = 300.0


class Semantic(Section):
    """``[cache.semantic]``: answers to questions that mean the same.

    Attributes:
        enabled: default false.
        similarity_threshold: 0 to 1; default 0.95.
    """

    enabled: bool = False
    similarity_threshold: Share = 0.95


class Query(Section):
    """``[cache.query]``: which results of statements are kept, in all tiers.

    Attributes:
        enabled: default true.
        max_result_size: bytes; a larger result is not kept; default 10MB.
        exclude_patterns: statements not kept: a bare verb (``"INSERT"``) names a kind of statement, anything
            else is a regular expression over the normalised text; default none.
        single_flight: whether a statement that another session is just asking waits for that answer; default
            true.
        single_flight_timeout: seconds it waits before it asks by itself; default 5.
    """

    enabled: bool = True
    max_result_size: Size = 10 * MB
    exclude_patterns: Strings = ()
    single_flight: bool = True
    single_flight_timeout: Seconds = 5.0

    @field_validator("exclude_patterns")
    @classmethod
    def _compile(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f'"{pattern}" is not a regular expression: {error}') from None
        return value


class Table(Section):
    """One ``[[cache.table]]``.

    Attributes:
        name: the table, schema-qualified (``"public.users"``) or not.
        enabled: whether results that read it are kept; default true.
        ttl: seconds for results that read it; None (default) = that of the tier.
    """

    name: Name
    enabled: bool = True
    ttl: Seconds | None = None


class Cache(Section):
    """``[cache]``: answering from memory what the server has answered before.

    Attributes:
        enabled: the master switch; default false, because only the user knows who else writes to the
            database.
        trusted_functions: functions of the user's own (``"app.slugify"``) whose result depends on their
            arguments and the tables alone; default none.
        allow_unordered_limit: whether to keep results of LIMIT without ORDER BY, of which the server may
            return different rows each time; default false.
        poll_interval: seconds between looks at the catalogue for changes made outside the proxy; default 5.
    """

    enabled: bool = False
    trusted_functions: Strings = ()
    allow_unordered_limit: bool = False
    poll_interval: Seconds = 5.0
    l1: L1 = L1()
    l2: L2 | None = None
    semantic: Semantic = Semantic()
    query: Query = Query()
    table: tuple[Table, ...] = ()

    @field_validator("table")
    @classmethod
    def _distinct(cls, value: tuple[Table, ...]) -> tuple[Table, ...]:
        return distinct(value, "name")


class Sql(Section):
    """``[sql]``: the analysis of statements.

    Attributes:
        memo_size: bytes for the analyses of statements seen before; default 32MB.
    """

    memo_size: Size = 32 * MB


class Node(Section):
    """One ``[[node]]``: a PostgreSQL server.

    Attributes:
        name: how the configuration and the statistics call it.
        dsn: its connection string, as libpq reads it; ``dsn.get_secret_value()`` is the text, password and
            all.
        tags: words that routing can ask for; default none.
    """

    name: Name
    # Without a serializer of its own pydantic prints a secret as asterisks, the host with it.
    dsn: Annotated[Dsn, AfterValidator(check_dsn), PlainSerializer(str, return_type=str, when_used="json")]
    tags: Strings = ()
