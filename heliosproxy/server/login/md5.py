"""PostgreSQL's md5 passwords (PostgreSQL, 55.2.1), and checks of a password that came in cleartext.

    stored    "md5" + hex(md5(password + user))
    answer    "md5" + hex(md5(hex of stored + four random bytes))

Who has the stored form can log in with it, so it is as secret as a password. MD5 is what this protocol says; a new
user should get a SCRAM verifier.
"""

from __future__ import annotations

import hashlib
import hmac

from .scram import Verifier, prepared

SALT = 4
"""Bytes of the salt in AuthenticationMD5Password."""

_HEX = frozenset("0123456789abcdef")


def _hex(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).hexdigest().encode()


def is_md5(stored: str) -> bool:
    """Whether *stored* has the form of an md5 password in pg_authid.rolpassword."""
    return len(stored) == 35 and stored.startswith("md5") and _HEX.issuperset(stored[3:])


def md5_of(user: str, password: str) -> str:
    """What PostgreSQL stores for *password* of *user*; a secret."""
    return "md5" + _hex((password + user).encode("utf-8", "surrogateescape")).decode()


def md5_answer(stored: str, salt: bytes) -> bytes:
    """What a client answers to a request with these four bytes of *salt*, without the NUL behind it.

    Args:
        stored: as `md5_of` has it.
        salt: `SALT` bytes.
    """
    return b"md5" + _hex(stored[3:].encode() + salt)


def md5_matches(stored: str, salt: bytes, answer: bytes) -> bool:
    """Whether a client's *answer* proves that it knows the password, in constant time."""
    return hmac.compare_digest(md5_answer(stored, salt), answer)


def password_matches(secret: Verifier | str, user: str, password: bytes) -> bool:
    """Whether a *password* that came in cleartext is the one behind *secret*, in constant time.

    A verifier costs its iterations of PBKDF2: 1-2 ms for 4,096.

    Args:
        secret: a SCRAM verifier, or an md5 password as PostgreSQL stores it.
        user: whose it is.
        password: as it came.
    """
    text = password.decode("utf-8", "surrogateescape")
    if isinstance(secret, str):
        return hmac.compare_digest(secret.encode(), md5_of(user, text).encode())
    salted = hashlib.pbkdf2_hmac("sha256", prepared(text), secret.salt, secret.iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    return hmac.compare_digest(hashlib.sha256(client_key).digest(), secret.stored_key)
