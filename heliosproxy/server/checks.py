"""What cannot be served, told before anything is opened: by ``heliosproxy check``, at any start, before a reload."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..config.features import Server
from ..errors import ConfigError, UnsupportedError
from .login import tls
from .login.accounts import Accounts
from .login.certificates import certificate_of
from .login.targets import resolve
from .login.users import refuse_unsafe
from .upstream.opening import refuse_unavailable

if TYPE_CHECKING:
    from ..config import Config


def refuse_unservable(config: Config, addresses: Sequence[str] | None = None) -> None:
    """As `check`, for who is about to serve: there must be a server to connect to, too.

    Raises:
        ConfigError: *config* cannot be served.
    """
    if not config.node:
        raise ConfigError("no server: give a DSN, or a configuration with a [[node]]", key="node")
    check(config, addresses)


def check(config: Config, addresses: Sequence[str] | None = None) -> None:
    """Nothing, when *config* can be served as far as can be told without a connection. Files are read.

    Args:
        addresses: those listened on; None (default) = those of ``server.listen``.

    Raises:
        ConfigError: it cannot; the message has a line for each cause.
    """
    server = config.server or Server()
    problems = [*_users(config, server), *_certificate(server), *_node(config)]
    if not problems:
        accounts = Accounts(config.user, server.auth_query)
        listen = server.listen if addresses is None else addresses
        problems += _told("", lambda: refuse_unsafe(listen, accounts, server.tls_cert is not None))
    if problems:
        raise ConfigError("\n".join(problems))


def _told(prefix: str, call: Callable[[], Any]) -> Iterator[str]:
    try:
        call()
    except (ConfigError, UnsupportedError) as error:
        yield f"{prefix}{error}"


def _users(config: Config, server: Server) -> Iterator[str]:
    for user in config.user:
        yield from _told("", lambda user=user: Accounts([user]))  # type: ignore[misc]  # of the lambda's default
    names = {user.name for user in config.user}
    if not names or server.auth_query is not None:
        return
    for key in ("admin_users", "stats_users"):
        for name in getattr(server, key):
            if name not in names:
                yield f'server.{key}: there is no [[user]] "{name}", and no auth_query that could find one'


def _certificate(server: Server) -> Iterator[str]:
    cert, key = server.tls_cert, server.tls_key
    if cert and key:
        where = "server.tls_cert, server.tls_key: "
        yield from _told(where, lambda: (tls.listener(cert, key), certificate_of(cert)))
    elif cert or key:
        given, missing = ("tls_cert", "tls_key") if cert else ("tls_key", "tls_cert")
        yield f"server.{given} is set and server.{missing} is not: one is of no use without the other"
    elif server.tls_required:
        yield "server.tls_required is set, and there is no certificate: set server.tls_cert and server.tls_key"


def _node(config: Config) -> Iterator[str]:
    for node in config.node[:1]:

        def read(dsn: str = node.dsn.get_secret_value()) -> None:
            destination = resolve(dsn)
            refuse_unavailable(destination)
            words: dict[str, Any] = dict(destination.tls)
            tls.upstream(**words)

        yield from _told(f'node "{node.name}": dsn: ', read)
