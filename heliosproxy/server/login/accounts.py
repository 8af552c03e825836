"""Who may log in to the proxy, and what proves it: more kinds of proof than a SCRAM verifier.

A ``[[user]]``'s verifier is one of

    SCRAM-SHA-256$4096:…     as pg_authid.rolpassword has it: the right choice
    md5…                     as pg_authid.rolpassword has it, of old servers
    plain:password           the password itself: for a try on one machine; `Accounts.plain` names such users

A password without ``plain:`` is refused: else a mistyped verifier would be a password.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...errors import ConfigError
from .md5 import is_md5
from .scram import Verifier
from .users import Users

if TYPE_CHECKING:
    from ...config.identity import User

PLAIN = "plain:"
Row = Sequence[object]
"""What ``auth_query`` returns for a user: its name, and its password as PostgreSQL stores it, or None."""


@dataclass(frozen=True, slots=True)
class Account:
    """One user who may log in.

    Attributes:
        name: the user's.
        secret: a SCRAM verifier, or an md5 password as PostgreSQL stores it.
        exists: False for one that only looks like a user: its login is asked for as any, and fails.
    """

    name: str
    secret: Verifier | str = field(repr=False)
    exists: bool = True


class Accounts(Users):
    """The users of a configuration, and how to find others.

    Args:
        users: the ``[[user]]`` sections.
        auth_query: SQL that finds other users; None = there are no others.

    Attributes:
        trusting: as `Users` has it: everybody is let in as whom he says he is.
        asking: there is an ``auth_query`` for names that are not in the configuration.
        plain: the users whose password stands in the configuration as it is; whoever starts the server warns of them.

    Raises:
        ConfigError: a verifier is none; the message names the user and does not repeat it.
    """

    def __init__(self, users: Iterable[User], auth_query: str | None = None) -> None:
        super().__init__((), auth_query)
        self._accounts: dict[str, Account] = {}
        plain = []
        for user in users:
            text = user.verifier.get_secret_value()
            try:
                self._accounts[user.name] = Account(user.name, _secret(text))
            except ValueError as error:
                raise ConfigError(f'user "{user.name}": verifier: {error}', key="user.verifier") from None
            if text.startswith(PLAIN):
                plain.append(user.name)
        self.asking = auth_query is not None
        self.plain = tuple(plain)
        self.trusting = not self._accounts and not self.asking
        secrets = [account.secret for account in self._accounts.values()]
        self._old = bool(secrets) and not self.asking and all(isinstance(secret, str) for secret in secrets)

    def get(self, name: str) -> Verifier | None:
        """The SCRAM verifier of user *name*; None where there is no such user, or it has none."""
        account = self._accounts.get(name)
        return account.secret if account is not None and isinstance(account.secret, Verifier) else None

    def find(self, name: str) -> Account | None:
        """The configuration's user *name*; None = ask ``auth_query`` if `asking`, else there is none."""
        return self._accounts.get(name)

    def found(self, name: str, row: Row | None) -> Account:
        """What ``auth_query`` says of user *name*; anything but a user with a password is one that cannot log in.

        The query must run with the proxy's own settings: a client's search_path must not reach it (CVE-2025-12819).

        Args:
            name: who was asked for.
            row: (usename, passwd); None = no row.
        """
        if row is None or len(row) != 2 or row[0] != name or not isinstance(row[1], str):
            return self.nobody(name)
        try:
            # A server stores no plain passwords, so a text that looks like one is none.
            return Account(name, row[1] if is_md5(row[1]) else Verifier.parse(row[1]))
        except ValueError:
            return self.nobody(name)

    def nobody(self, name: str) -> Account:
        """An account for *name*, who does not exist: the same questions and the same time, and no way in."""
        mock = self.mock(name)
        return Account(name, f"md5{mock.stored_key.hex()[:32]}" if self._old else mock, exists=False)


def _secret(text: str) -> Verifier | str:
    if text.startswith(PLAIN):
        password = text.removeprefix(PLAIN)
        if not password:
            raise ValueError("an empty password lets nobody in")
        return Verifier.of(password)
    if is_md5(text):
        return text
    try:
        return Verifier.parse(text)
    except ValueError:
        raise ValueError(
            "neither SCRAM-SHA-256$… nor md5… as pg_authid.rolpassword has it; for a password as it is write plain:…"
        ) from None
