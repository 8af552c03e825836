"""SCRAM-SHA-256, both sides (RFC 5802, RFC 7677; PostgreSQL, 55.3).

    client                                    server
    n,,n=,r=NONCE                  ──▶        r=NONCE+MORE,s=SALT,i=ITERATIONS
                                   ◀──
    c=…,r=NONCE+MORE,p=PROOF       ──▶        v=SIGNATURE
                                   ◀──

PostgreSQL's clients leave the user's name out of the first message: the startup packet's counts.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import stringprep
import unicodedata
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from dataclasses import dataclass, field

from .errors import LoginRefused

MECHANISM = b"SCRAM-SHA-256"
MECHANISM_PLUS = b"SCRAM-SHA-256-PLUS"
ITERATIONS = 4096
"""PostgreSQL's default (scram_iterations), and RFC 7677's least."""

_PREFIX = "SCRAM-SHA-256$"
_NONCE = 18  # bytes, as PostgreSQL (SCRAM_RAW_NONCE_LEN)
_MOST_ITERATIONS = 10_000_000  # an hour of work for nothing is an attack, by whichever side
_PROHIBITED = (
    stringprep.in_table_a1,
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _xor(first: bytes, second: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(first, second, strict=True))


def prepared(password: str) -> bytes:
    """*password* by SASLprep (RFC 4013); as it is where SASLprep forbids it, as PostgreSQL does."""
    raw = password.encode("utf-8", "surrogateescape")
    if password.isascii():
        return raw
    mapped = "".join(
        " " if stringprep.in_table_c12(c) else c for c in password if not stringprep.in_table_b1(c)
    )
    text = unicodedata.normalize("NFKC", mapped)
    if any("\ud800" <= c <= "\udfff" for c in text):
        return raw  # bytes that are no UTF-8
    if not text or any(test(c) for c in text for test in _PROHIBITED):
        return raw
    right = [stringprep.in_table_d1(c) for c in text]
    if any(right) and (any(map(stringprep.in_table_d2, text)) or not (right[0] and right[-1])):
        return raw
    return text.encode()


@dataclass(frozen=True, slots=True)
class Verifier:
    """What a server keeps instead of a password.

    Attributes:
        salt: random bytes.
        iterations: of PBKDF2.
        stored_key, server_key: 32 bytes each.
    """

    salt: bytes
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Verifier:
        """A verifier in PostgreSQL's form: ``SCRAM-SHA-256$4096:salt$StoredKey:ServerKey``, in base64.

        Raises:
            ValueError: it is none; the message does not repeat it.
        """
        try:
            if not text.startswith(_PREFIX):
                raise ValueError
            head, keys = text.removeprefix(_PREFIX).split("$")
            iterations, salt = head.split(":")
            stored, server = (b64decode(key, validate=True) for key in keys.split(":"))
            if not iterations.isdecimal():
                raise ValueError
            found = cls(b64decode(salt, validate=True), int(iterations), stored, server)
        except ValueError:
            raise ValueError("not a SCRAM-SHA-256 verifier as pg_authid.rolpassword has it") from None
        if len(stored) != 32 or len(server) != 32 or not 0 < found.iterations <= _MOST_ITERATIONS:
            raise ValueError("not a SCRAM-SHA-256 verifier as pg_authid.rolpassword has it")
        return found

    @classmethod
    def of(cls, password: str, salt: bytes | None = None, iterations: int = ITERATIONS) -> Verifier:
        """The verifier of *password*; *salt* None (default) = 16 random bytes."""
        salt = secrets.token_bytes(16) if salt is None else salt
        salted = hashlib.pbkdf2_hmac("sha256", prepared(password), salt, iterations)
        client_key = _hmac(salted, b"Client Key")
        return cls(salt, iterations, hashlib.sha256(client_key).digest(), _hmac(salted, b"Server Key"))

    @classmethod
    def mock(cls, user: str, secret: bytes) -> Verifier:
        """A verifier that nobody can fulfil, always the same for *user*: who asks cannot tell it from a real one."""
        seed = _hmac(secret, user.encode("utf-8", "surrogateescape"))
        return cls(seed[:16], ITERATIONS, _hmac(seed, b"stored"), _hmac(seed, b"server"))

    def text(self) -> str:
        """PostgreSQL's form; a secret."""
        salt, stored, server = (
            b64encode(part).decode() for part in (self.salt, self.stored_key, self.server_key)
        )
        return f"{_PREFIX}{self.iterations}:{salt}${stored}:{server}"


def _attributes(message: bytes, names: str) -> list[str]:
    """The values of the attributes that *message* begins with, in order; more may follow."""
    try:
        parts = message.decode().split(",")
    except UnicodeDecodeError:
        raise _malformed() from None
    if len(parts) < len(names) or any(not p.startswith(f"{n}=") for p, n in zip(parts, names, strict=False)):
        raise _malformed()
    return [part[2:] for part in parts[: len(names)]]


def _malformed() -> LoginRefused:
    return LoginRefused("malformed SCRAM message", "08P01")


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (NotBase64, ValueError):
        raise _malformed() from None


class ServerScram:
    """Our side towards a client.

    Args:
        verifier: the user's, or a mock one.
        binding: hash of our certificate where the client may bind to it (tls-server-end-point); None = it cannot.
        plus: the client has chosen SCRAM-SHA-256-PLUS.
    """

    def __init__(self, verifier: Verifier, binding: bytes | None = None, *, plus: bool = False) -> None:
        self._verifier = verifier
        self._binding = binding
        self._plus = plus
        self._header = b""
        self._bare = self._first = b""
        self._nonce = ""

    def first(self, message: bytes) -> bytes:
        """The answer to the client's first *message*; raises LoginRefused."""
        head, comma, rest = message.partition(b",")
        authorisation, comma2, bare = rest.partition(b",")
        if not comma or not comma2:
            raise _malformed()
        if self._plus != (head == b"p=tls-server-end-point"):
            raise _malformed()
        if not self._plus and head not in (b"n", b"y"):
            raise _malformed()
        if head == b"y" and self._binding is not None:
            raise LoginRefused("SCRAM channel binding negotiation error: the client thinks we cannot bind")
        if authorisation:
            raise LoginRefused("client uses authorization identity, but it is not supported", "0A000")
        _, nonce = _attributes(bare, "nr")
        if not nonce or not all(33 <= ord(c) <= 126 for c in nonce):
            raise _malformed()
        self._header = message[: len(head) + 2]
        self._bare = bare
        self._nonce = nonce + b64encode(secrets.token_bytes(_NONCE)).decode()
        salt = b64encode(self._verifier.salt).decode()
        self._first = f"r={self._nonce},s={salt},i={self._verifier.iterations}".encode()
        return self._first

    def final(self, message: bytes) -> bytes | None:
        """The answer to the client's final *message*; None = the password is wrong. Raises LoginRefused."""
        without, comma, proof_text = message.rpartition(b",p=")
        if not comma:
            raise _malformed()
        binding, nonce = _attributes(without, "cr")
        expected = self._header + (self._binding or b"" if self._plus else b"")
        if not hmac.compare_digest(_decoded(binding), expected):
            raise LoginRefused("SCRAM channel binding check failed")
        if not hmac.compare_digest(nonce.encode(), self._nonce.encode()):
            raise _malformed()
        proof = _decoded(proof_text.decode("ascii", "replace"))
        if len(proof) != 32:
            raise _malformed()
        said = b",".join((self._bare, self._first, without))
        client_key = _xor(proof, _hmac(self._verifier.stored_key, said))
        if not hmac.compare_digest(hashlib.sha256(client_key).digest(), self._verifier.stored_key):
            return None
        return b"v=" + b64encode(_hmac(self._verifier.server_key, said))


class ClientScram:
    """Our side towards a server.

    Args:
        password: of the login.
        binding: hash of the server's certificate, for SCRAM-SHA-256-PLUS; None = we do not bind.
        could: we could bind, but the server does not offer it.
    """

    def __init__(self, password: str, binding: bytes | None = None, *, could: bool = False) -> None:
        self._password = password
        self._binding = binding
        self._header = b"p=tls-server-end-point,," if binding is not None else (b"y,," if could else b"n,,")
        self._nonce = b64encode(secrets.token_bytes(_NONCE)).decode()
        self._signature = b""

    def first(self) -> bytes:
        """Our first message."""
        return self._header + f"n=,r={self._nonce}".encode()

    def final(self, message: bytes) -> bytes:
        """Our answer to the server's first *message*; raises LoginRefused when that is none."""
        nonce, salt, count = _attributes(message, "rsi")
        if not nonce.startswith(self._nonce) or nonce == self._nonce or not count.isdecimal():
            raise _malformed()
        iterations = int(count[:10])
        if not 0 < iterations <= _MOST_ITERATIONS:
            raise _malformed()
        verifier_salt = _decoded(salt)
        salted = hashlib.pbkdf2_hmac("sha256", prepared(self._password), verifier_salt, iterations)
        client_key = _hmac(salted, b"Client Key")
        bound = b64encode(self._header + (self._binding or b""))
        without = b"c=" + bound + b",r=" + nonce.encode()
        said = b",".join((f"n=,r={self._nonce}".encode(), message, without))
        proof = _xor(client_key, _hmac(hashlib.sha256(client_key).digest(), said))
        self._signature = _hmac(_hmac(salted, b"Server Key"), said)
        return without + b",p=" + b64encode(proof)

    def check(self, message: bytes) -> None:
        """Check the server's final *message*; raises LoginRefused: it does not know the password either."""
        (signature,) = _attributes(message, "v")
        if not self._signature or not hmac.compare_digest(_decoded(signature), self._signature):
            raise LoginRefused(
                "the server does not prove that it knows the password: it is not the one meant"
            )
