"""From a connection string to what must be connected to, and as whom.

`resolve` reads everything that libpq would read (environment, service file, password file) once; nothing of it is
read while connecting.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from ...errors import ConfigError, UnsupportedError
from .keywords import Keywords, read_keywords
from .methods import CHANNEL_BINDING, Methods
from .passfile import password_for, read_passfile
from .scram_keys import ScramKeys

SOCKET_FOLDER = "/var/run/postgresql"
"""Where a server's Unix socket is when no host is given: as psycopg's libpq, and Debian, have it."""

_LONGEST_PATH = 107  # bytes: sun_path of Linux, less its NUL
_TLS_NAMES = (
    "sslmode sslrootcert sslcert sslkey sslpassword sslcrl sslcrldir sslcertmode sslsni sslnegotiation"
    " ssl_min_protocol_version ssl_max_protocol_version"
)
_TLS = _TLS_NAMES.split()
_NOTHING: Mapping[str, object] = MappingProxyType({})
_VERSIONS = {"": (3, 0), "3.0": (3, 0), "3.2": (3, 2), "latest": (3, 2)}


@dataclass(frozen=True, slots=True)
class Target:
    """One server.

    Attributes:
        host: its name as given, for messages and its certificate; "" = only *hostaddr* is given.
        hostaddr: its address, where given: *host* is not looked up then. "" = look *host* up.
        port: TCP port, or number of the Unix socket.
        path: of the Unix socket, ``@…`` for one in the abstract namespace; "" = TCP.
        password: for this server, from the connection string or the password file; "" = none.
    """

    host: str
    hostaddr: str
    port: int
    path: str = ""
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return self.path or f"{self.host or self.hostaddr}:{self.port}"


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """Socket options of a TCP connection; None = the system's own.

    Attributes:
        on: whether SO_KEEPALIVE is set.
        idle, interval: seconds.
        count: probes.
        user_timeout: milliseconds (TCP_USER_TIMEOUT).
    """

    on: bool = True
    idle: int | None = None
    interval: int | None = None
    count: int | None = None
    user_timeout: int | None = None


@dataclass(frozen=True, slots=True)
class Login:
    """As whom, and what the session begins with.

    Attributes:
        user, database: of the login.
        parameters: the rest of the startup packet, by name: application_name, options, client_encoding, replication,
            and settings that the environment asks for.
        methods: how the server may ask who we are (require_auth).
        channel_binding: "disable", "prefer" or "require".
        keys: SCRAM keys in the place of a password; None = none are given.
        protocol: the lowest and the highest version to ask for.
    """

    user: str
    database: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    methods: Methods = field(default_factory=Methods)
    channel_binding: str = "prefer"
    keys: ScramKeys | None = None
    protocol: tuple[tuple[int, int], tuple[int, int]] = ((3, 0), (3, 0))

    @property
    def startup(self) -> dict[str, str]:
        """All names and values of the startup packet, in order."""
        return {"user": self.user, "database": self.database, **self.parameters}


@dataclass(frozen=True, slots=True)
class Destination:
    """All that a connection string says.

    Attributes:
        login: as whom.
        targets: the servers, in the order to try; at least one.
        shuffle: they are to be tried in random order (load_balance_hosts), and so are the addresses of each.
        session_attrs: which of them will do: "any", "read-write", "read-only", "primary", "standby" or
            "prefer-standby".
        connect_timeout: seconds for each of them; None = as long as it takes.
        keepalive: socket options.
        require_peer: the account that the server must run as on a Unix socket; "" = any.
        tls: keyword arguments of `tls.upstream`.
    """

    login: Login
    targets: tuple[Target, ...]
    shuffle: bool = False
    session_attrs: str = "any"
    connect_timeout: float | None = None
    keepalive: KeepAlive = KeepAlive()
    require_peer: str = ""
    tls: Mapping[str, str] = field(default_factory=dict, repr=False)


def resolve(
    conninfo: str,
    parameters: Mapping[str, object] = _NOTHING,
    *,
    environ: Mapping[str, str] = os.environ,
    home: Path | None = None,
) -> Destination:
    """What *conninfo* means, here and now.

    Args:
        conninfo: a libpq connection string: URI or ``keyword=value`` text.
        parameters: more keywords, which win.
        environ: the environment; default: the process's.
        home: the user's home folder, where default files are; None = the process's.

    Raises:
        ConfigError: something in it, or in the environment, cannot be used; the message names the keyword.
        UnsupportedError: a keyword asks for what the proxy cannot do.
    """
    home = Path.home() if home is None else home
    words = read_keywords(conninfo, parameters, environ, home)
    login = _login(words)
    timeout = words.number("connect_timeout")
    return Destination(
        login,
        _targets(words, login, home),
        shuffle=words.word("load_balance_hosts", "disable", "random") == "random",
        session_attrs=words.word(
            "target_session_attrs", "any", "read-write", "read-only", "primary", "standby", "prefer-standby"
        ),
        connect_timeout=float(timeout) if timeout is not None and timeout > 0 else None,
        keepalive=_keepalive(words),
        require_peer=words.get("requirepeer"),
        tls=MappingProxyType({name: words.get(name) for name in _TLS if words.get(name)}),
    )


def _login(words: Keywords) -> Login:
    user = words.get("user")
    parameters = {"application_name": words.get("application_name") or words.get("fallback_application_name")}
    for name in ("options", "client_encoding", "replication"):
        parameters[name] = words.get(name)
    if parameters["client_encoding"] == "auto":
        raise UnsupportedError("client_encoding=auto: a proxy has no terminal of its own; name the encoding")
    return Login(
        user,
        words.get("dbname") or user,
        MappingProxyType({**{n: value for n, value in parameters.items() if value}, **words.settings}),
        Methods.parse(words.get("require_auth")),
        words.word("channel_binding", "prefer", *CHANNEL_BINDING),
        _keys(words),
        _protocol(words),
    )


def _keys(words: Keywords) -> ScramKeys | None:
    client, server = words.get("scram_client_key"), words.get("scram_server_key")
    if not client and not server:
        return None
    if not client or not server:
        raise ConfigError(
            "scram_client_key and scram_server_key are wanted together: the latter checks the server"
        )
    try:
        return ScramKeys.parse(client, server)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _protocol(words: Keywords) -> tuple[tuple[int, int], tuple[int, int]]:
    found = []
    for name in ("min_protocol_version", "max_protocol_version"):
        text = words.get(name)
        if text not in _VERSIONS:
            raise ConfigError(f'{name}: "{text}" is not one of 3.0, 3.2, latest')
        found.append(_VERSIONS[text])
    low, high = found
    if not words.get("max_protocol_version"):
        high = max(low, high)
    if low > high:
        raise ConfigError("min_protocol_version is above max_protocol_version: no version is left")
    return low, high


def _keepalive(words: Keywords) -> KeepAlive:
    on = words.number("keepalives")
    # For libpq 0 and below is the system's own value.
    idle, interval, count, user_timeout = (
        number if (number := words.number(name)) is not None and number > 0 else None
        for name in ("keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout")
    )
    return KeepAlive(on != 0, idle, interval, count, user_timeout)


def _targets(words: Keywords, login: Login, home: Path) -> tuple[Target, ...]:
    hosts, addresses = words.get("host").split(","), words.get("hostaddr").split(",")
    if words.get("hostaddr"):
        if words.get("host") and len(hosts) != len(addresses):
            raise ConfigError(
                f"{len(hosts)} names in host and {len(addresses)} addresses in hostaddr: give as many"
            )
        hosts = hosts if words.get("host") else [""] * len(addresses)
    else:
        addresses = [""] * len(hosts)
    ports = words.get("port").split(",")
    if len(ports) not in (1, len(hosts)):
        raise ConfigError(
            f"{len(ports)} ports and {len(hosts)} hosts: give one port for all, or one for each"
        )
    ports = ports if len(ports) == len(hosts) else ports * len(hosts)
    password = words.get("password")
    lines: list[str] = []
    if not password:
        lines = read_passfile(Path(words.get("passfile") or home / ".pgpass"))
    found = []
    for host, address, text in zip(hosts, addresses, ports, strict=True):
        place = _place(host, address, _port(text))
        own = password or password_for(lines, _called(place), place.port, login.database, login.user)
        found.append(Target(place.host, place.hostaddr, place.port, place.path, own or ""))
    return tuple(found)


def _place(host: str, address: str, port: int) -> Target:
    if address:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise ConfigError(f'hostaddr: "{address}" is not an IP address; names go into host') from None
        return Target(host, address, port)
    host = host or SOCKET_FOLDER
    if host[0] not in "/@":
        return Target(host, "", port)
    path = f"{host}/.s.PGSQL.{port}"
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise ConfigError(f'Unix socket path "{path}" is longer than {_LONGEST_PATH} bytes')
    return Target(host, "", port, path)


def _called(target: Target) -> str:
    """What a password file calls a server."""
    return "localhost" if target.host == SOCKET_FOLDER else target.host or target.hostaddr


def _port(text: str) -> int:
    text = text.strip() or "5432"
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:6]) <= 65535:
        raise ConfigError(f'port: "{text}" is not a number from 1 to 65535')
    return int(text)
