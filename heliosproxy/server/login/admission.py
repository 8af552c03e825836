"""A client's login to us, as a conversation: what it is asked, until it is let in or refused (PostgreSQL, 55.2.1).

An `Authenticator` is a generator: it yields what must be done, and is sent what came of it. `Admission` drives it:

    admission = Admission(Passwords(accounts), Client(user, database))
    step = admission.start()
    Ask       send AuthenticationXXX; step = admission.answer(body of the client's password message)
    Lookup    run auth_query; step = admission.found(row)
    Admitted  send its `final`, if any, then AuthenticationOk

Later versions add authenticators (JWT, LDAP, API keys) and, for what they need of the outside, kinds of steps.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol

from .accounts import Row
from .errors import LoginRefused


@dataclass(frozen=True, slots=True)
class Client:
    """Who wants to log in, and over what line.

    Attributes:
        user, database: as the startup packet has them.
        tls: the line is encrypted.
        binding: `end_point_hash` of our own certificate; None = no TLS, or a certificate without one.
        certificate: `subject_cn` of the client's certificate, which was verified; None = it has shown none.
    """

    user: str
    database: str
    tls: bool = False
    binding: bytes | None = None
    certificate: str | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """Send an authentication request, and wait for the client's answer.

    Attributes:
        code: 3 cleartext, 5 MD5, 10 SASL, 11 SASLContinue.
        payload: what stands behind the code.
    """

    code: int
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Lookup:
    """Run ``auth_query`` for *user*, on a connection of the proxy's own and with none of the client's settings."""

    user: str


@dataclass(frozen=True, slots=True)
class Admitted:
    """The client is in.

    Attributes:
        user: who it is.
        method: what proved it, as pg_hba.conf calls it.
        final: what it gets before AuthenticationOk, without an answer; None = nothing.
    """

    user: str
    method: str
    final: Ask | None = None


Step = Ask | Lookup
Conversation = Generator[Step, bytes | Row | None, Admitted]


class Authenticator(Protocol):
    """Finds out whether clients are who they say."""

    def conversation(self, client: Client) -> Conversation:
        """The login of *client*.

        Yields:
            `Ask`, and is sent the body of the client's answer; `Lookup`, and is sent the row, None = no row.

        Returns:
            `Admitted`.

        Raises:
            LoginRefused: it is not let in. The message never tells whether the user exists.
        """
        ...


class Admission:
    """One client's login.

    Args:
        authenticator: how it is done.
        client: who wants in.
    """

    def __init__(self, authenticator: Authenticator, client: Client) -> None:
        self._conversation = authenticator.conversation(client)
        self._last: Step | Admitted | None = None

    def start(self) -> Step | Admitted:
        """The first step; raises LoginRefused."""
        return self._send(None)

    def answer(self, body: bytes) -> Step | Admitted:
        """The next step after the client's answer.

        Args:
            body: of its password or SASL message.

        Raises:
            LoginRefused: it is not let in, or was not asked.
        """
        if not isinstance(self._last, Ask):
            raise LoginRefused("a password was sent that was not asked for", "08P01")
        return self._send(body)

    def found(self, row: Row | None) -> Step | Admitted:
        """The next step after a `Lookup`; *row* None = no row. Raises LoginRefused."""
        if not isinstance(self._last, Lookup):
            raise RuntimeError("nothing was to be looked up")
        return self._send(row)

    def _send(self, value: bytes | Row | None) -> Step | Admitted:
        # Refused once is refused: a conversation that has raised is over, and `answer` finds nothing asked.
        self._last = None
        try:
            self._last = self._conversation.send(value)
        except StopIteration as end:
            self._last = end.value
        assert self._last is not None  # noqa: S101 - a conversation returns Admitted
        return self._last
