"""Our side as a client of real servers: the wheel's PostgreSQL, and Debian's PostgreSQL 15 with TLS."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from heliosproxy.embedded import Cluster
from heliosproxy.server.login.certificates import certificate_of, end_point_hash
from heliosproxy.server.login.errors import LoginRefused
from heliosproxy.server.login.login import ServerLogin
from heliosproxy.server.login.md5 import md5_of
from heliosproxy.server.login.methods import Methods
from heliosproxy.server.login.scram import Verifier
from heliosproxy.server.login.scram_keys import ScramKeys
from heliosproxy.server.login.tls import UpstreamTls, upstream

LogIn = Callable[..., ServerLogin]

BINDIR = Path("/usr/lib/postgresql/15/bin")
PASSWORD = "s'3 cret\\"
# What SASLprep maps, normalises, forbids, and leaves alone.
PASSWORDS = [
    "pencil",
    "s'3 cret\\",
    "ﬁ\u00a0x",
    "a\u00adb",
    "\u0627\u0031",
    "x\u0007é",
    "\u1e9b\u0323",
    "日本",
]


def _literal(text: str) -> str:
    return psycopg.sql.Literal(text).as_string(None)


@pytest.fixture(scope="module")
def guarded() -> Iterator[Cluster]:
    """The wheel's server; a user per method."""
    hba = [
        f"host all {user} 127.0.0.1/32 {method}"
        for user, method in (("scram", "scram-sha-256"), ("old", "md5"), ("clear", "password"))
    ]
    with Cluster(replicas=0, hba=hba, settings={"md5_password_warnings": "off"}) as cluster:
        node = cluster.primary
        for user in ("scram", "clear"):
            node.sql(f"CREATE ROLE {user} LOGIN PASSWORD {_literal(PASSWORD)}")
        node.sql(f"CREATE ROLE old LOGIN PASSWORD '{md5_of('old', PASSWORD)}'")
        yield cluster


def _stored(cluster: Cluster, user: str) -> str:
    return str(cluster.primary.sql(f"SELECT rolpassword FROM pg_authid WHERE rolname = '{user}'")[0][0])


def test_every_method_of_a_real_server_is_answered(guarded: Cluster, log_in: LogIn) -> None:
    node = guarded.primary
    for user, method in (
        ("scram", "scram-sha-256"),
        ("old", "md5"),
        ("clear", "password"),
        ("postgres", "none"),
    ):
        login = log_in(
            node.host,
            node.port,
            user,
            lambda _, u=user, m=method: ServerLogin(u, PASSWORD, methods=Methods.parse(m)),
            None,
        )
        assert login.done
        assert login.method == method


@pytest.mark.parametrize("user", ["scram", "old"])
def test_a_wrong_password_is_refused_by_a_real_server(
    guarded: Cluster, log_in: LogIn, refusal: type[Exception], user: str
) -> None:
    node = guarded.primary
    with pytest.raises(refusal) as caught:
        log_in(node.host, node.port, user, lambda _: ServerLogin(user, "wrong"), None)
    assert caught.value.args == ("28P01", f'password authentication failed for user "{user}"')


def test_keys_open_a_real_server(guarded: Cluster, log_in: LogIn) -> None:
    verifier = Verifier.parse(_stored(guarded, "scram"))
    keys = ScramKeys.of(PASSWORD, verifier.salt, verifier.iterations)
    node = guarded.primary
    assert log_in(node.host, node.port, "scram", lambda _: ServerLogin("scram", keys=keys), None).done


@pytest.mark.parametrize("password", PASSWORDS)
def test_our_verifier_of_a_password_is_that_of_a_real_server(guarded: Cluster, password: str) -> None:
    node = guarded.primary
    node.sql(f"DROP ROLE IF EXISTS probe; CREATE ROLE probe PASSWORD {_literal(password)}")
    stored = _stored(guarded, "probe")
    theirs = Verifier.parse(stored)
    assert Verifier.of(password, theirs.salt, theirs.iterations) == theirs
    assert theirs.text() == stored


def test_our_md5_of_a_password_is_that_of_a_real_server(guarded: Cluster) -> None:
    node = guarded.primary
    node.sql(
        f"SET password_encryption = md5; DROP ROLE IF EXISTS probe5; CREATE ROLE probe5 PASSWORD {_literal(PASSWORD)}"
    )
    assert _stored(guarded, "probe5") == md5_of("probe5", PASSWORD)


# -- with TLS ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def debian(certificates: Path) -> Iterator[Cluster]:
    """PostgreSQL 15 of Debian; TLS and a proof for everybody but postgres."""
    if not (BINDIR / "postgres").exists():
        pytest.skip("Debian's postgresql-15 is not installed: TLS to a server is NOT tested")
    hba = (
        "hostssl all scram 127.0.0.1/32 scram-sha-256",
        "hostssl all clear 127.0.0.1/32 password",
        "hostssl all app 127.0.0.1/32 cert",
        "hostnossl all scram,clear,app 127.0.0.1/32 reject",
    )
    with Cluster(replicas=0, bindir=BINDIR, hba=hba) as cluster:
        node = cluster.primary
        owner = node.data_dir.stat()
        for name in ("server.crt", "server.key", "ca.crt"):
            copy = node.data_dir / name
            copy.write_bytes((certificates / name).read_bytes())
            copy.chmod(0o600)
            shutil.chown(copy, owner.st_uid, owner.st_gid)
        node.sql("ALTER SYSTEM SET ssl_ca_file = 'ca.crt'")
        node.sql("ALTER SYSTEM SET ssl = on")
        node.sql("SELECT pg_reload_conf()")
        for user in ("scram", "clear"):
            node.sql(f"CREATE ROLE {user} LOGIN PASSWORD {_literal(PASSWORD)}")
        node.sql("CREATE ROLE app LOGIN")
        yield cluster


@pytest.fixture
def tls(certificates: Path, tmp_path: Path) -> Callable[..., UpstreamTls]:
    def tls(sslmode: str = "verify-full", **more: Any) -> UpstreamTls:
        return upstream(sslmode, sslrootcert=str(certificates / "ca.crt"), home=tmp_path, **more)

    return tls


@pytest.mark.debian
@pytest.mark.parametrize("channel_binding", ["prefer", "require", "disable"])
def test_it_binds_to_the_channel_of_a_real_server(
    debian: Cluster, log_in: LogIn, tls: Callable[..., UpstreamTls], certificates: Path, channel_binding: str
) -> None:
    seen: list[bytes | None] = []

    def login(binding: bytes | None) -> ServerLogin:
        seen.append(binding)
        return ServerLogin("scram", PASSWORD, tls=True, binding=binding, channel_binding=channel_binding)

    node = debian.primary
    assert log_in(node.host, node.port, "scram", login, tls()).done
    assert seen == [end_point_hash(certificate_of(str(certificates / "server.crt")))]


@pytest.mark.debian
def test_a_real_server_refuses_the_binding_of_another_certificate(
    debian: Cluster, log_in: LogIn, tls: Callable[..., UpstreamTls], refusal: type[Exception]
) -> None:
    node = debian.primary
    with pytest.raises(refusal, match="SCRAM channel binding check failed"):
        log_in(
            node.host,
            node.port,
            "scram",
            lambda _: ServerLogin("scram", PASSWORD, tls=True, binding=b"m" * 32),
            tls(),
        )


@pytest.mark.debian
def test_a_password_in_cleartext_and_a_certificate_are_taken_over_tls(
    debian: Cluster, log_in: LogIn, tls: Callable[..., UpstreamTls], certificates: Path
) -> None:
    node = debian.primary
    login = log_in(node.host, node.port, "clear", lambda _: ServerLogin("clear", PASSWORD, tls=True), tls())
    assert login.method == "password"
    mine = {"sslcert": str(certificates / "app.crt"), "sslkey": str(certificates / "app.key")}
    login = log_in(node.host, node.port, "app", lambda _: ServerLogin("app", tls=True), tls(**mine))
    assert login.method == "none"


@pytest.mark.debian
def test_a_server_with_another_certificate_or_name_is_not_talked_to(
    debian: Cluster, log_in: LogIn, certificates: Path, tmp_path: Path
) -> None:
    node = debian.primary

    def attempt(name: str, sslmode: str, root: str, **more: Any) -> ServerLogin:
        found = upstream(sslmode, sslrootcert=str(certificates / root), home=tmp_path, **more)
        login = ServerLogin("scram", PASSWORD, tls=True)
        return log_in(node.host, node.port, "scram", lambda _: login, found, name)

    for mode in ("require", "verify-ca", "verify-full"):
        with pytest.raises(ssl.SSLCertVerificationError):
            attempt("127.0.0.1", mode, "other.crt")
    with pytest.raises(ssl.SSLCertVerificationError, match="elsewhere"):
        attempt("elsewhere", "verify-full", "ca.crt")
    assert attempt("elsewhere", "verify-ca", "ca.crt").done
    assert attempt("localhost", "verify-full", "ca.crt", sslcrl=str(certificates / "none.crl")).done
    with pytest.raises(ssl.SSLCertVerificationError, match="revoked"):
        attempt("localhost", "verify-ca", "ca.crt", sslcrl=str(certificates / "server.crl"))


@pytest.mark.debian
def test_a_server_that_does_not_agree_to_alpn_is_not_talked_to_directly(
    certificates: Path, tls: Callable[..., UpstreamTls]
) -> None:
    # PostgreSQL 15 does not know direct TLS: two ends in memory do.
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificates / "server.crt", certificates / "server.key")
    found = tls(sslnegotiation="direct")
    assert found.context is not None
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = found.context.wrap_bio(down, up, server_hostname=found.server_hostname("localhost"))
    peer = server.wrap_bio(up, down, server_side=True)
    for side in (client, peer, client, peer):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    with pytest.raises(LoginRefused, match="ALPN"):
        found.check(client)
