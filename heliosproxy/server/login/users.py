"""Who may log in to the proxy."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ...errors import ConfigError
from .scram import Verifier

if TYPE_CHECKING:
    from ...config.identity import User


class Users:
    """The users of a configuration.

    Attributes:
        trusting: nobody is configured, so everybody who can reach a listener is let in as whom he says he is.
    """

    def __init__(self, users: Iterable[User], auth_query: str | None = None) -> None:
        self._verifiers: dict[str, Verifier] = {}
        self._secret = secrets.token_bytes(32)
        for user in users:
            try:
                self._verifiers[user.name] = Verifier.parse(user.verifier.get_secret_value())
            except ValueError as error:
                raise ConfigError(f'user "{user.name}": verifier: {error}', key="user.verifier") from None
        self.trusting = not self._verifiers and auth_query is None

    def get(self, name: str) -> Verifier | None:
        """The verifier of user *name*; None where the configuration has no such user."""
        return self._verifiers.get(name)

    def mock(self, name: str) -> Verifier:
        """What a user who does not exist is asked with."""
        return Verifier.mock(name, self._secret)


def refuse_unsafe(addresses: Sequence[str], users: Users, tls: bool) -> None:
    """Nothing, when nobody can get in who should not.

    Raises:
        ConfigError: an address can be reached from other machines, and there are no users, or no TLS.
    """
    for address in addresses:
        if is_local(address):
            continue
        if users.trusting:
            raise ConfigError(
                f"server.listen: {address} can be reached from other machines, and there is neither a [[user]] nor"
                " server.auth_query: everybody would be let in. Configure one, or listen on 127.0.0.1",
                key="server.listen",
            )
        if not tls:
            raise ConfigError(
                f"server.listen: {address} can be reached from other machines, and there is no TLS: set"
                " server.tls_cert and server.tls_key, or listen on 127.0.0.1",
                key="server.listen",
            )


def is_local(address: str) -> bool:
    """Whether *address* (``host:port`` or a path) can be reached from this machine alone."""
    if address.startswith("/"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
