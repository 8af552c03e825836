"""`Config`: the whole of heliosproxy.toml, typed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Self

from pydantic import ValidationError, field_validator

from heliosproxy.config.base import Section, distinct
from heliosproxy.config.features import (
    AiCache,
    CircuitBreaker,
    GraphQL,
    Http,
    Plugins,
    Routing,
    Server,
    SessionMigration,
    TransactionReplay,
)
from heliosproxy.config.identity import Auth, RateLimit, Tenancy, User
from heliosproxy.config.masking import Dsn
from heliosproxy.config.problems import config_error
from heliosproxy.config.sections import Cache, Node, Pool, Sql
from heliosproxy.config.sources import Layer, merge, read_environment, read_file, read_overrides

_NOTHING: Mapping[str, object] = MappingProxyType({})


class Config(Section):
    """What a Proxy is built from. Immutable and hashable: equal configurations may share one Proxy.

    Each attribute is a section of the file, under its name there. A section that has no ``enabled`` key and
    asks for a feature by being present is None when absent; ``[[…]]`` arrays are tuples. ``repr()`` masks
    secrets.
    """

    pool: Pool = Pool()
    cache: Cache = Cache()
    sql: Sql = Sql()
    node: tuple[Node, ...] = ()
    graphql: GraphQL = GraphQL()
    plugins: Plugins = Plugins()
    routing: Routing | None = None
    circuit_breaker: CircuitBreaker = CircuitBreaker()
    ai_cache: AiCache = AiCache()
    auth: Auth = Auth()
    tenancy: Tenancy = Tenancy()
    rate_limit: RateLimit = RateLimit()
    transaction_replay: TransactionReplay = TransactionReplay()
    session_migration: SessionMigration = SessionMigration()
    server: Server | None = None
    user: tuple[User, ...] = ()
    http: Http | None = None

    @field_validator("node")
    @classmethod
    def _distinct_nodes(cls, value: tuple[Node, ...]) -> tuple[Node, ...]:
        return distinct(value, "name")

    @field_validator("user")
    @classmethod
    def _distinct_users(cls, value: tuple[User, ...]) -> tuple[User, ...]:
        return distinct(value, "name")

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        environ: Mapping[str, str] = os.environ,
        overrides: Mapping[str, object] = _NOTHING,
    ) -> Self:
        """Read a file, the environment and keywords; keywords beat the environment, which beats the file.

        Args:
            path: the TOML file; None (default) = no file. ``${NAME}`` in its string values is replaced from
                *environ*, ``$${`` stands for ``${``.
            environ: the variables; those that begin with ``HELIOSPROXY_`` set keys
                (``HELIOSPROXY_POOL__MODE=session``). Default: those of the process.
            overrides: dotted keys (``{"pool.mode": "session"}``) or nested mappings. Default: none. They,
                like the environment's values, are taken as they are, ``${`` and all.

        Raises:
            ConfigError: the file cannot be read or is not TOML; a key is unknown; a value is wrong; a
                variable that the file refers to is not set; a ``HELIOSPROXY_`` variable names no key.
        """
        return cls.from_layers(
            *([] if path is None else [read_file(path, environ)]),
            read_environment(cls, environ),
            read_overrides(overrides),
        )

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, object]) -> Self:
        """A configuration from values alone, nested as in the file or under dotted keys.

        Neither a file nor the environment is read, and ``${`` means itself.

        Raises:
            ConfigError: a key is unknown, or a value is wrong.
        """
        return cls.from_layers(read_overrides(mapping))

    @classmethod
    def from_layers(cls, *layers: Layer) -> Self:
        """A configuration from sources already read, the strongest last.

        Raises:
            ConfigError: a key is unknown, or a value is wrong.
        """
        merged: dict[str, object] = {}
        for layer in layers:
            merge(merged, layer.data)
        try:
            return cls.model_validate(merged)
        except ValidationError as error:
            # Nothing of pydantic's error is chained: tracebacks are printed, and its inputs hold passwords.
            raise config_error(cls, error, layers) from None

    def with_dsn(self, dsn: str) -> Self:
        """This configuration with *dsn* for its first node; one without nodes gets one, named ``primary``.

        Raises:
            ConfigError: *dsn* is not a PostgreSQL connection string.
        """
        first = {"name": "primary"} if not self.node else self.node[0].model_dump()
        try:
            node = Node.model_validate({**first, "dsn": Dsn(dsn)})
        except ValidationError as error:
            raise config_error(Node, error, [Layer({"dsn": dsn})]) from None
        return self.model_copy(update={"node": (node, *self.node[1:])})
