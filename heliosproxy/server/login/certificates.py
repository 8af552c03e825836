"""What a login needs to know of a certificate: the hash that SCRAM binds to, and whose it is."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

from ...errors import ConfigError

_SEQUENCE, _OID, _EXPLICIT_0 = 0x30, 0x06, 0xA0

# Signature algorithm → hash (RFC 3279, 4055, 5758, 8017). RFC 5929: where it is MD5 or SHA-1, SHA-256 is taken.
_HASHES = {
    "1.2.840.113549.1.1.4": "sha256",  # RSA with MD5
    "1.2.840.113549.1.1.5": "sha256",  # RSA with SHA-1
    "1.2.840.113549.1.1.11": "sha256",
    "1.2.840.113549.1.1.12": "sha384",
    "1.2.840.113549.1.1.13": "sha512",
    "1.2.840.113549.1.1.14": "sha224",
    "1.2.840.10040.4.3": "sha256",  # DSA with SHA-1
    "2.16.840.1.101.3.4.3.1": "sha224",  # DSA
    "2.16.840.1.101.3.4.3.2": "sha256",
    "1.2.840.10045.4.1": "sha256",  # ECDSA with SHA-1
    "1.2.840.10045.4.3.1": "sha224",
    "1.2.840.10045.4.3.2": "sha256",
    "1.2.840.10045.4.3.3": "sha384",
    "1.2.840.10045.4.3.4": "sha512",
}
_PSS = "1.2.840.113549.1.1.10"  # names its hash in its parameters
_PSS_HASHES = {
    "1.3.14.3.2.26": "sha256",  # SHA-1
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
    "2.16.840.1.101.3.4.2.4": "sha224",
}


def end_point_hash(der: bytes) -> bytes | None:
    """The ``tls-server-end-point`` binding (RFC 5929, section 4) of the server's certificate.

    Args:
        der: the certificate; ``ssl_object.getpeercert(binary_form=True)``, or `certificate_of` for our own.

    Returns:
        The hash; None where none is defined: Ed25519 and other signatures without a hash of their own.

    Raises:
        ValueError: *der* is no certificate.
    """
    name = _hash_name(der)
    return None if name is None else hashlib.new(name, der).digest()


def _hash_name(der: bytes) -> str | None:
    # Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm SEQUENCE { OID, parameters }, signature }
    certificate, _ = _value(der, 0, _SEQUENCE)
    _, after_tbs = _value(certificate, 0, _SEQUENCE)
    algorithm, _ = _value(certificate, after_tbs, _SEQUENCE)
    oid, after = _value(algorithm, 0, _OID)
    name = _dotted(oid)
    if name != _PSS:
        return _HASHES.get(name)
    # RSASSA-PSS-params ::= SEQUENCE { [0] SEQUENCE { OID … } DEFAULT sha1, … }
    parameters, _ = _value(algorithm, after, _SEQUENCE)
    if parameters[:1] != bytes((_EXPLICIT_0,)):
        return "sha256"
    wrapped, _ = _value(parameters, 0, _EXPLICIT_0)
    inner, _ = _value(wrapped, 0, _SEQUENCE)
    return _PSS_HASHES.get(_dotted(_value(inner, 0, _OID)[0]))


def _value(data: bytes, at: int, tag: int) -> tuple[bytes, int]:
    """The contents of the element of kind *tag* at *at*, and where the next one begins."""
    if len(data) < at + 2 or data[at] != tag:
        raise ValueError("not a certificate in DER")
    size, start = data[at + 1], at + 2
    if size & 0x80:
        count = size & 0x7F
        size, start = int.from_bytes(data[start : start + count], "big"), start + count
    if start + size > len(data):
        raise ValueError("not a certificate in DER")
    return data[start : start + size], start + size


def _dotted(oid: bytes) -> str:
    numbers, value = [], 0
    for byte in oid:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    if not numbers:
        raise ValueError("not a certificate in DER")
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


def certificate_of(path: str) -> bytes:
    """The first certificate of the PEM file *path*, in DER: the server's own, where a chain follows it.

    Raises:
        ConfigError: it cannot be read, or holds no certificate.
    """
    try:
        text = Path(path).read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise ConfigError(f'certificate file "{path}": {error.strerror}') from None
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    _, found, rest = text.partition(begin)
    body, closed, _ = rest.partition(end)
    try:
        if not found or not closed:
            raise ValueError
        return ssl.PEM_cert_to_DER_cert(begin + body + end)
    except ValueError:
        raise ConfigError(f'certificate file "{path}": there is no certificate in it') from None


def subject_cn(ssl_object: ssl.SSLObject | ssl.SSLSocket) -> str | None:
    """Whose certificate the other side has shown and we have verified: its common name.

    None where there is no certificate, no common name, more than one, or a NUL in it: who it names must be beyond
    doubt.
    """
    certificate = ssl_object.getpeercert()
    subject = certificate.get("subject", ()) if certificate else ()
    names = [
        pair[1] for part in subject if isinstance(part, tuple) for pair in part if pair[0] == "commonName"
    ]
    if len(names) != 1 or not isinstance(names[0], str) or not names[0] or "\0" in names[0]:
        return None
    return names[0]
