"""libpq as a client of our side, over a line of a server that lets clients log in and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from heliosproxy.config.identity import User
from heliosproxy.server.login.accounts import Accounts
from heliosproxy.server.login.authenticators import Certificate, Cleartext, Passwords, Trust
from heliosproxy.server.login.md5 import md5_of
from heliosproxy.server.login.scram import Verifier
from heliosproxy.server.login.tls import listener

Serving = Callable[..., AbstractContextManager[Any]]

PASSWORD = "s'3 cret\\ ﬁ"
ACCOUNTS = Accounts(
    [
        User(name="app", verifier=SecretStr(Verifier.of(PASSWORD, iterations=64).text())),
        User(name="old", verifier=SecretStr(md5_of("old", PASSWORD))),
    ]
)


def _connect(port: int, user: str = "app", password: str | None = PASSWORD, **more: Any) -> None:
    given = {"sslmode": "disable", "gssencmode": "disable", "connect_timeout": 20, **more}
    psycopg.connect(host="127.0.0.1", port=port, user=user, dbname="shop", password=password, **given).close()


def test_it_logs_in_by_scram_and_by_md5(serving: Serving) -> None:
    with serving(Passwords(ACCOUNTS)) as served:
        _connect(served.port, require_auth="scram-sha-256")
        _connect(served.port, "old", require_auth="md5")
        assert [admitted.method for admitted in served.admitted] == ["scram-sha-256", "md5"]


@pytest.mark.parametrize("user", ["app", "old", "nobody"])
def test_it_is_told_postgresqls_words_when_it_is_refused(serving: Serving, user: str) -> None:
    with serving(Passwords(ACCOUNTS)) as served:
        with pytest.raises(
            psycopg.OperationalError, match=f'password authentication failed for user "{user}"'
        ):
            _connect(served.port, user, "wrong")
        assert not served.admitted


def test_it_is_let_in_by_what_auth_query_finds(serving: Serving) -> None:
    with serving(Passwords(Accounts([], "SELECT …"))) as served:
        served.row = ("late", Verifier.of(PASSWORD, iterations=64).text())
        _connect(served.port, "late")
        served.row = None
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            _connect(served.port, "late")
        assert served.asked == ["late", "late"]


def test_it_needs_no_password_where_everybody_is_trusted(serving: Serving) -> None:
    with serving(Trust()) as served:
        _connect(served.port, "anybody", None, require_auth="none")


@pytest.mark.parametrize("negotiation", ["postgres", "direct"])
def test_it_binds_to_the_channel(serving: Serving, certificates: Path, negotiation: str) -> None:
    cert = certificates / "server.crt"
    context = listener(str(cert), str(certificates / "server.key"))
    with serving(Passwords(ACCOUNTS), context, cert) as served:
        tls = {
            "sslmode": "verify-full",
            "sslrootcert": str(certificates / "ca.crt"),
            "sslnegotiation": negotiation,
        }
        for binding in ("require", "prefer", "disable"):
            _connect(served.port, channel_binding=binding, **tls)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            _connect(served.port, password="wrong", channel_binding="require", **tls)


def test_it_is_refused_binding_to_another_certificate(serving: Serving, certificates: Path) -> None:
    context = listener(str(certificates / "server.crt"), str(certificates / "server.key"))
    with (
        serving(Passwords(ACCOUNTS), context, certificates / "other.crt") as served,
        pytest.raises(psycopg.OperationalError, match="SCRAM channel binding check failed"),
    ):
        _connect(served.port, sslmode="require", channel_binding="require")


def test_it_sends_its_password_in_cleartext_over_tls_only(serving: Serving, certificates: Path) -> None:
    cert = certificates / "server.crt"
    with serving(Cleartext(ACCOUNTS), listener(str(cert), str(certificates / "server.key")), cert) as served:
        for user in ("app", "old"):
            _connect(served.port, user, sslmode="require", require_auth="password")
        with pytest.raises(psycopg.OperationalError, match="over TLS only"):
            _connect(served.port)


def test_it_logs_in_by_certificate(serving: Serving, certificates: Path) -> None:
    cert, key, ca = (str(certificates / name) for name in ("server.crt", "server.key", "ca.crt"))
    mine = {"sslcert": str(certificates / "app.crt"), "sslkey": str(certificates / "app.key")}
    with serving(Certificate(), listener(cert, key, ca)) as served:
        _connect(served.port, "app", None, sslmode="require", **mine)
        with pytest.raises(psycopg.OperationalError, match="certificate authentication failed"):
            _connect(served.port, "other", None, sslmode="require", **mine)
        with pytest.raises(psycopg.OperationalError, match="requires a valid client certificate"):
            _connect(served.port, "app", None, sslmode="require", sslcertmode="disable")
        strange = {"sslcert": str(certificates / "other.crt"), "sslkey": str(certificates / "other.key")}
        with pytest.raises(psycopg.OperationalError):
            _connect(served.port, "other", None, sslmode="require", **strange)
        assert [admitted.method for admitted in served.admitted] == ["cert"]
