"""The authenticators of this version: trust, passwords, passwords in cleartext over TLS, certificates."""

from __future__ import annotations

import secrets
from collections.abc import Generator

from .accounts import Account, Accounts, Row
from .admission import Admitted, Ask, Authenticator, Client, Conversation, Lookup, Step
from .errors import LoginRefused, wrong_password
from .login import CLEARTEXT, MD5, SASL, SASL_CONTINUE, SASL_FINAL
from .md5 import SALT, md5_matches, password_matches
from .scram import MECHANISM, MECHANISM_PLUS, ServerScram, Verifier

LONGEST = 1024
"""Bytes of a password or SASL message; ours and libpq's have some 200. PostgreSQL draws the same line for SCRAM."""


class Trust:
    """Everybody is whom he says he is: for listeners that only this machine reaches (`refuse_unsafe`)."""

    def conversation(self, client: Client) -> Conversation:
        """Nothing is asked."""
        yield from ()
        return Admitted(client.user, "trust")


class Passwords:
    """SCRAM-SHA-256, with channel binding where there is TLS; MD5 for users of whom only that is known.

    Args:
        accounts: who may log in.
    """

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def conversation(self, client: Client) -> Conversation:
        """SCRAM or MD5, as the account has it; who does not exist is asked, too."""
        account = yield from _account(self._accounts, client)
        if isinstance(account.secret, Verifier):
            return (yield from _scram(client, account, account.secret))
        salt = secrets.token_bytes(SALT)
        answer = _password(client, (yield Ask(MD5, salt)))
        if not md5_matches(account.secret, salt, answer) or not account.exists:
            raise wrong_password(client.user)
        return Admitted(client.user, "md5")


class Cleartext:
    """The password itself, over TLS only: for clients that can do nothing else.

    Args:
        accounts: who may log in.
    """

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def conversation(self, client: Client) -> Conversation:
        """Refuses before the password is asked for, because a client sends it to whoever asks."""
        if not client.tls:
            raise LoginRefused("a password in cleartext is taken over TLS only: connect with sslmode=require")
        account = yield from _account(self._accounts, client)
        password = _password(client, (yield Ask(CLEARTEXT)))
        if not password_matches(account.secret, client.user, password) or not account.exists:
            raise wrong_password(client.user)
        return Admitted(client.user, "password")


class Certificate:
    """A client certificate whose common name is the user's."""

    def conversation(self, client: Client) -> Conversation:
        """Nothing is asked: TLS has verified the certificate."""
        yield from ()
        if not client.tls or client.certificate is None:
            raise LoginRefused("connection requires a valid client certificate")
        if client.certificate != client.user:
            raise LoginRefused(f'certificate authentication failed for user "{client.user}"')
        return Admitted(client.user, "cert")


def authenticator_of(accounts: Accounts) -> Authenticator:
    """What a configuration with these *accounts* asks for: `Trust` where it has none, else `Passwords`."""
    return Trust() if accounts.trusting else Passwords(accounts)


def _account(accounts: Accounts, client: Client) -> Generator[Step, bytes | Row | None, Account]:
    account = accounts.find(client.user)
    if account is None and accounts.asking:
        row = yield Lookup(client.user)
        account = accounts.found(client.user, row if not isinstance(row, bytes) else None)
    return account if account is not None else accounts.nobody(client.user)


def _scram(client: Client, account: Account, verifier: Verifier) -> Conversation:
    offered = (MECHANISM,) if client.binding is None else (MECHANISM_PLUS, MECHANISM)
    body = _message((yield Ask(SASL, b"".join(name + b"\0" for name in offered) + b"\0")))
    # SASLInitialResponse: the mechanism's name, NUL, the length of what follows (-1 = nothing).
    mechanism, _, rest = body.partition(b"\0")
    if mechanism not in offered:
        raise LoginRefused("client selected an invalid SASL authentication mechanism", "08P01")
    if len(rest) < 4 or int.from_bytes(rest[:4], "big") != len(rest) - 4:
        raise LoginRefused("malformed SASL message", "08P01")
    scram = ServerScram(verifier, client.binding, plus=mechanism == MECHANISM_PLUS)
    body = _message((yield Ask(SASL_CONTINUE, scram.first(rest[4:]))))
    final = scram.final(body)
    if final is None or not account.exists:
        raise wrong_password(client.user)
    return Admitted(client.user, "scram-sha-256", Ask(SASL_FINAL, final))


def _message(body: bytes | Row | None) -> bytes:
    if not isinstance(body, bytes) or len(body) > LONGEST:
        raise LoginRefused("malformed SASL message", "08P01")
    return body


def _password(client: Client, body: bytes | Row | None) -> bytes:
    """The text of a PasswordMessage. An empty one is wrong even where somebody has stored one, as in PostgreSQL."""
    if not isinstance(body, bytes) or not body or len(body) > LONGEST or body.find(b"\0") != len(body) - 1:
        raise LoginRefused("invalid password packet size", "08P01")
    if body == b"\0":
        raise wrong_password(client.user)
    return body[:-1]
