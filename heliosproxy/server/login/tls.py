"""TLS contexts: for our listeners, and towards servers by libpq's rules (PostgreSQL, 34.19)."""

from __future__ import annotations

import os
import ssl
import stat
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import ConfigError, UnsupportedError
from .errors import LoginRefused

ALPN = "postgresql"
"""The protocol's registered name; direct TLS must say it, so that nobody is talked into another protocol."""

MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_STRONG = frozenset({"require", "verify-ca", "verify-full"})
_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


# -- our listeners -----------------------------------------------------------------------------------


def listener(cert: str, key: str, client_ca: str | None = None) -> ssl.SSLContext:
    """The context of our listeners: TLS 1.2 or later, and "postgresql" by ALPN for those who ask.

    Args:
        cert: PEM file of our certificate and what it is signed with.
        key: PEM file of its key, without a passphrase, which the group and others may not read.
        client_ca: PEM file of the authorities of client certificates; None = none are asked for.

    Raises:
        ConfigError: a file cannot be used; the message names it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= (
        ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    )  # sessions are never resumed, as in PostgreSQL
    context.num_tickets = 0
    context.set_alpn_protocols([ALPN])
    _load_pair(context, cert, key, "")
    if client_ca is not None:
        _load_authorities(context, client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def spoke_alpn(ssl_object: ssl.SSLObject | ssl.SSLSocket) -> bool:
    """Whether both sides agreed by ALPN to speak PostgreSQL's protocol; direct TLS must be refused if not."""
    return ssl_object.selected_alpn_protocol() == ALPN


# -- towards servers ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UpstreamTls:
    """How a server is to be spoken to over TCP; over a Unix socket never with TLS, as in libpq.

    Attributes:
        attempts: whether with TLS, in the order to try; the next one only if the server refuses this one.
        context: for the attempts with TLS; None = there are none.
        check_host: the certificate must be that of the host's name.
        sni: the server is told which host is meant.
        direct: TLS begins with the first byte, without an SSLRequest.
    """

    attempts: tuple[bool, ...]
    context: ssl.SSLContext | None = field(default=None, repr=False)
    check_host: bool = False
    sni: bool = True
    direct: bool = False

    def server_hostname(self, host: str) -> str | None:
        """What ``wrap_socket`` or ``start_tls`` is given for *host*, as the connection string calls it.

        None is for no name; ``loop.create_connection`` would take its host then, and wants "" instead.

        Raises:
            ConfigError: sslmode=verify-full, and there is no name that the certificate could have.
        """
        if self.check_host and not host:
            raise ConfigError("sslmode=verify-full needs host: its name is compared with the certificate's")
        return host if host and self.sni else None

    def check(self, ssl_object: ssl.SSLObject | ssl.SSLSocket) -> None:
        """After the handshake; raises LoginRefused: the server began TLS directly without agreeing to ALPN."""
        if self.direct and not spoke_alpn(ssl_object):
            raise LoginRefused(
                "the server began TLS directly, but did not agree by ALPN to speak PostgreSQL's protocol"
            )


def upstream(
    sslmode: str | None = None,
    sslrootcert: str = "",
    sslcert: str = "",
    sslkey: str = "",
    sslpassword: str = "",
    sslcrl: str = "",
    sslcrldir: str = "",
    sslcertmode: str = "",
    sslsni: str = "",
    sslnegotiation: str = "",
    ssl_min_protocol_version: str = "",
    ssl_max_protocol_version: str = "",
    home: Path | None = None,
) -> UpstreamTls:
    """What libpq's parameters of these names mean; "" = not given.

    As in libpq a root certificate that is there is used in every mode that speaks TLS, so "require" with one is
    "verify-ca". Stricter than libpq: a file that is named must be there, for ``sslcrl`` and ``sslcert``, too.

    Args:
        sslmode: None or "" = "prefer", or "verify-full" with ``sslrootcert=system``.
        home: where the default files are (``root.crt``, ``root.crl``, ``postgresql.crt``, ``postgresql.key``);
            None = ``~/.postgresql``.

    Raises:
        ConfigError: they contradict each other, or a file cannot be used; the message names it.
        UnsupportedError: what they ask for Python's TLS cannot do.
    """
    system = sslrootcert == "system"
    mode = sslmode or ("verify-full" if system else "prefer")
    _one_of("sslmode", mode, MODES)
    _one_of("sslnegotiation", sslnegotiation, ("", "postgres", "direct"))
    _one_of("sslcertmode", sslcertmode, ("", "disable", "allow", "require"))
    _one_of("sslsni", sslsni, ("", "0", "1"))
    if system and mode != "verify-full":
        raise ConfigError(f"sslrootcert=system with sslmode={mode} proves nothing: use sslmode=verify-full")
    direct = sslnegotiation == "direct"
    if direct and mode not in _STRONG:
        raise ConfigError(f"sslnegotiation=direct needs TLS: use sslmode=require or stronger, not {mode}")
    if mode == "disable":
        return UpstreamTls((False,))
    sni = sslsni != "0"
    if mode == "verify-full" and not sni:
        raise UnsupportedError("sslsni=0 with sslmode=verify-full is not supported: leave one of them out")
    folder = home if home is not None else Path.home() / ".postgresql"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([ALPN])
    context.minimum_version = _version("ssl_min_protocol_version", ssl_min_protocol_version or "TLSv1.2")
    if ssl_max_protocol_version:
        context.maximum_version = _version("ssl_max_protocol_version", ssl_max_protocol_version)
        if context.maximum_version < context.minimum_version:
            raise ConfigError(
                "ssl_max_protocol_version is below ssl_min_protocol_version: no version is left"
            )
    _trust(context, mode, system, sslrootcert, sslcrl, sslcrldir, folder)
    _show(context, sslcertmode, sslcert, sslkey, sslpassword, folder)
    context.check_hostname = mode == "verify-full"
    attempts = {"allow": (False, True), "prefer": (True, False)}.get(mode, (True,))
    return UpstreamTls(attempts, context, mode == "verify-full", sni, direct)


def _trust(
    context: ssl.SSLContext,
    mode: str,
    system: bool,
    sslrootcert: str,
    sslcrl: str,
    sslcrldir: str,
    folder: Path,
) -> None:
    root = Path(sslrootcert) if sslrootcert else folder / "root.crt"
    if system:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    elif root.exists():
        _load_authorities(context, str(root))
        revoked = Path(sslcrl) if sslcrl or sslcrldir else folder / "root.crl"
        if sslcrl or sslcrldir or revoked.exists():
            _load_revoked(context, str(revoked) if sslcrl or not sslcrldir else None, sslcrldir or None)
    elif mode.startswith("verify"):
        raise ConfigError(
            f'sslmode={mode}: root certificate file "{root}" does not exist. Provide it, or use the system\'s with'
            " sslrootcert=system, or choose an sslmode that does not verify the server"
        )
    elif sslcrl or sslcrldir:
        raise ConfigError(f'sslcrl needs a root certificate, and the file "{root}" does not exist')
    else:
        return
    context.verify_mode = ssl.CERT_REQUIRED


def _show(
    context: ssl.SSLContext, sslcertmode: str, sslcert: str, sslkey: str, sslpassword: str, folder: Path
) -> None:
    """Our own certificate, for servers that ask for one."""
    cert = Path(sslcert) if sslcert else folder / "postgresql.crt"
    if sslcertmode == "disable":
        return
    if sslcert or cert.exists():
        _load_pair(context, str(cert), sslkey or str(folder / "postgresql.key"), sslpassword)
    elif sslcertmode == "require":
        raise ConfigError(f'sslcertmode=require: certificate file "{cert}" does not exist')


# -- files -------------------------------------------------------------------------------------------


def _load_pair(context: ssl.SSLContext, cert: str, key: str, password: str) -> None:
    _readable("certificate file", cert)
    _private(key)
    # Without a password OpenSSL would ask the terminal for it.
    try:
        context.load_cert_chain(cert, key, lambda: password)
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or "the passphrase is missing or wrong"
        if reason == "KEY_VALUES_MISMATCH":
            reason = "the key is not the certificate's"
        raise ConfigError(
            f'certificate file "{cert}" and key file "{key}" cannot be used: {reason}'
        ) from None


def _load_authorities(context: ssl.SSLContext, path: str) -> None:
    _readable("root certificate file", path)
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        raise ConfigError(f'root certificate file "{path}" cannot be used: {error.reason or error}') from None


def _load_revoked(context: ssl.SSLContext, path: str | None, folder: str | None) -> None:
    if path is not None:
        _readable("certificate revocation list", path)
    if folder is not None and not Path(folder).is_dir():
        raise ConfigError(f'sslcrldir: "{folder}" is no directory')
    try:
        context.load_verify_locations(cafile=path, capath=folder)
    except ssl.SSLError as error:
        raise ConfigError(
            f'certificate revocation list "{path}" cannot be used: {error.reason or error}'
        ) from None
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN


def _readable(what: str, path: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise ConfigError(f'{what} "{path}": {error.strerror}') from None


def _private(path: str) -> None:
    """Refuse a key that others may read, as PostgreSQL does: 0600, or root's own with 0640."""
    _readable("key file", path)
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f'key file "{path}" is not a regular file')
    forbidden = 0o037 if status.st_uid == 0 else 0o077
    if status.st_mode & forbidden:
        raise ConfigError(
            f'key file "{path}" can be read by others: chmod 0600, or 0640 where it belongs to root'
        )


# -- words -------------------------------------------------------------------------------------------


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f'{name}: "{value}" is not one of {", ".join(word for word in allowed if word)}')


def _version(name: str, text: str) -> ssl.TLSVersion:
    found = {known.lower(): version for known, version in _VERSIONS.items()}.get(text.lower())
    if found is None:
        raise UnsupportedError(f'{name}: "{text}" is not supported: use {" or ".join(_VERSIONS)}')
    return found
