"""Our login to a server: what its authentication requests are answered with (PostgreSQL, 55.2.1)."""

from __future__ import annotations

import hashlib

from .errors import LoginRefused
from .scram import MECHANISM, MECHANISM_PLUS, ClientScram

OK, CLEARTEXT, MD5, SASL, SASL_CONTINUE, SASL_FINAL = 0, 3, 5, 10, 11, 12
_OTHERS = {2: "Kerberos V5", 7: "GSSAPI", 8: "GSSAPI", 9: "SSPI"}


class Answers:
    """One login.

    Args:
        user, password: of the login; a password "" means that there is none.
        binding: hash of the server's certificate (tls-server-end-point); None = no TLS.
    """

    def __init__(self, user: str, password: str, binding: bytes | None = None) -> None:
        self._user = user
        self._password = password
        self._binding = binding
        self._scram: ClientScram | None = None
        self._proved = True

    def answer(self, code: int, payload: bytes) -> bytes | None:
        """The body of the message that answers the authentication request *code*; None = none is wanted.

        Raises:
            LoginRefused: it asks for what we do not do, or there is no password, or it proves not to be the server.
        """
        if code == OK:
            if not self._proved:
                raise LoginRefused("the server ended SCRAM without proving that it knows the password")
            return None
        if code == SASL_CONTINUE and self._scram is not None:
            return self._scram.final(payload)
        if code == SASL_FINAL and self._scram is not None:
            self._scram.check(payload)
            self._proved = True
            return None
        if not self._password:
            raise LoginRefused(f'the server wants a password for user "{self._user}", and the dsn has none')
        if code == SASL:
            return self._sasl(payload)
        if code == MD5:
            return self._md5(payload) + b"\0"
        if code == CLEARTEXT:
            if self._binding is None:
                raise LoginRefused(
                    "the server asks for the password in cleartext, and the line is not encrypted"
                )
            return self._password.encode() + b"\0"
        raise LoginRefused(
            f"the server asks for {_OTHERS.get(code, f'authentication method {code}')}: not supported"
        )

    def _sasl(self, payload: bytes) -> bytes:
        offered = payload.split(b"\0")
        self._proved = False
        if MECHANISM_PLUS in offered and self._binding is not None:
            mechanism = MECHANISM_PLUS
            self._scram = ClientScram(self._password, self._binding)
        elif MECHANISM in offered:
            mechanism = MECHANISM
            self._scram = ClientScram(self._password, could=self._binding is not None)
        else:
            raise LoginRefused("the server offers no SASL mechanism that we have; we have SCRAM-SHA-256")
        first = self._scram.first()
        return mechanism + b"\0" + len(first).to_bytes(4, "big") + first

    def _md5(self, payload: bytes) -> bytes:
        # MD5 is what the protocol says here, not what we chose.
        inner = hashlib.md5((self._password + self._user).encode(), usedforsecurity=False).hexdigest()
        outer = hashlib.md5(inner.encode() + payload[:4], usedforsecurity=False).hexdigest()
        return b"md5" + outer.encode()
