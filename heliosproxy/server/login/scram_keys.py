"""SCRAM for a client that has the keys and not the password: libpq's ``scram_client_key``, ``scram_server_key``.

Who has them can log in wherever the verifier has the same salt and iterations. So they are as secret as a password.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from dataclasses import dataclass, field

from .scram import ITERATIONS, ClientScram, _attributes, _decoded, _hmac, _malformed, _xor, prepared


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """ClientKey and ServerKey (RFC 5802, section 3); 32 bytes each."""

    client_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    @classmethod
    def of(cls, password: str, salt: bytes, iterations: int = ITERATIONS) -> ScramKeys:
        """The keys of *password* for a verifier with this *salt* and number of *iterations*."""
        salted = hashlib.pbkdf2_hmac("sha256", prepared(password), salt, iterations)
        return cls(_hmac(salted, b"Client Key"), _hmac(salted, b"Server Key"))

    @classmethod
    def parse(cls, client_key: str, server_key: str) -> ScramKeys:
        """The keys in base64, as a connection string has them.

        Raises:
            ValueError: they are not 32 bytes in base64; the message does not repeat them.
        """
        try:
            found = [b64decode(text, validate=True) for text in (client_key, server_key)]
        except ValueError:
            found = []
        if [len(key) for key in found] != [32, 32]:
            raise ValueError("scram_client_key and scram_server_key are 32 bytes each, in base64")
        return cls(*found)


class KeyScram(ClientScram):
    """`ClientScram` with *keys* in the place of a password; salt and iterations are not looked at.

    Args:
        keys: of the login.
        binding, could: as for `ClientScram`.
    """

    def __init__(self, keys: ScramKeys, binding: bytes | None = None, *, could: bool = False) -> None:
        super().__init__("", binding, could=could)
        self._keys = keys

    def final(self, message: bytes) -> bytes:
        """Our answer to the server's first *message*; raises LoginRefused when that is none."""
        nonce, salt, _ = _attributes(message, "rsi")
        if not nonce.startswith(self._nonce) or nonce == self._nonce:
            raise _malformed()
        _decoded(salt)
        without = b"c=" + b64encode(self._header + (self._binding or b"")) + b",r=" + nonce.encode()
        said = b",".join((f"n=,r={self._nonce}".encode(), message, without))
        stored = hashlib.sha256(self._keys.client_key).digest()
        self._signature = hmac.digest(self._keys.server_key, said, "sha256")
        return without + b",p=" + b64encode(_xor(self._keys.client_key, _hmac(stored, said)))
