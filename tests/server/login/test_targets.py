"""From connection strings, the environment and libpq's files to what must be connected to."""

from __future__ import annotations

import logging
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliosproxy.errors import ConfigError, UnsupportedError
from heliosproxy.server.login.keywords import _FIXED, _SUPPORTED, _UNSUPPORTED
from heliosproxy.server.login.passfile import password_for
from heliosproxy.server.login.targets import Destination, KeepAlive, Target, resolve
from heliosproxy.server.login.tls import upstream


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """`resolve` in an environment of its own, and with an empty home folder."""

    def read(conninfo: str = "", environ: dict[str, str] | None = None, **parameters: object) -> Destination:
        return resolve(conninfo, parameters, environ={"PGUSER": "me", **(environ or {})}, home=tmp_path)

    return read


def test_a_uri_says_where_and_as_whom(read: Any) -> None:
    found = read("postgresql://app:s%40crt@db.example:6000/shop?application_name=web&options=-c%20geqo%3Doff")
    assert found.targets == (Target("db.example", "", 6000, password="s@crt"),)
    assert found.login.startup == {
        "user": "app",
        "database": "shop",
        "application_name": "web",
        "options": "-c geqo=off",
    }
    assert "s@crt" not in repr(found)
    assert str(found.targets[0]) == "db.example:6000"


def test_what_is_not_given_is_as_in_libpq(read: Any) -> None:
    found = read()
    assert found.targets == (Target("/var/run/postgresql", "", 5432, "/var/run/postgresql/.s.PGSQL.5432"),)
    assert (found.login.user, found.login.database) == ("me", "me")
    assert found.keepalive == KeepAlive()
    assert (found.session_attrs, found.shuffle, found.connect_timeout) == ("any", False, None)
    assert (found.login.channel_binding, found.login.protocol) == ("prefer", ((3, 0), (3, 0)))
    assert found.login.methods.allowed == {"none", "password", "md5", "scram-sha-256"}
    assert upstream(**found.tls, home=Path("/nowhere")).attempts == (True, False)


def test_several_hosts_keep_their_order(read: Any) -> None:
    found = read(
        "postgresql://u@a:1,b:2,%2Frun%2Fx:3/d?target_session_attrs=read-write&load_balance_hosts=random"
    )
    assert [str(target) for target in found.targets] == ["a:1", "b:2", "/run/x/.s.PGSQL.3"]
    assert (found.session_attrs, found.shuffle) == ("read-write", True)
    assert [t.port for t in read("host=a,b port=7").targets] == [7, 7]
    assert [t.port for t in read("host=a,b port=,8").targets] == [5432, 8]
    assert [(t.host, t.hostaddr) for t in read("host=a,b hostaddr=127.0.0.1,::1").targets] == [
        ("a", "127.0.0.1"),
        ("b", "::1"),
    ]
    assert [str(t) for t in read("hostaddr=127.0.0.1,::1").targets] == ["127.0.0.1:5432", "::1:5432"]


def test_the_rest_of_the_keywords_is_heeded(read: Any) -> None:
    found = read(
        "host=h keepalives=0 keepalives_idle=9 keepalives_interval=8 keepalives_count=7 tcp_user_timeout=6"
        " connect_timeout=3 requirepeer=postgres replication=database client_encoding=LATIN1"
        " channel_binding=require require_auth=!md5,!password max_protocol_version=latest sslmode=disable"
    )
    assert found.keepalive == KeepAlive(False, 9, 8, 7, 6)
    assert (found.connect_timeout, found.require_peer) == (3.0, "postgres")
    assert found.login.parameters == {"client_encoding": "LATIN1", "replication": "database"}
    assert found.login.channel_binding == "require"
    assert found.login.methods.allowed == {"none", "scram-sha-256"}
    assert not found.login.methods.named
    assert found.login.protocol == ((3, 0), (3, 2))
    assert found.tls["sslmode"] == "disable"


def test_keys_may_stand_in_the_place_of_a_password(read: Any) -> None:
    key = b64encode(b"k" * 32).decode()
    found = read(scram_client_key=key, scram_server_key=key)
    assert found.login.keys is not None
    assert key not in repr(found)
    with pytest.raises(ConfigError, match="wanted together"):
        read(scram_client_key=key)


@pytest.mark.parametrize(
    ("conninfo", "words"),
    [
        ("host=h gssencmode=require", "gssencmode=require: the proxy never uses GSSAPI"),
        ("host=h krbsrvname=x", "krbsrvname: the proxy never uses GSSAPI"),
        ("host=h oauth_issuer=x oauth_client_id=y", "oauth_issuer"),
        ("host=h sslkeylogfile=x", "sslkeylogfile"),
        ("host=h sslcompression=1", "sslcompression=1"),
        ("host=h client_encoding=auto", "name the encoding"),
        ("host=h colour=red", 'unknown connection parameter "colour"'),
        ("postgresql://h/d?colour=red", 'unknown connection parameter "colour"'),
        ("host=a,b port=1,2,3", "3 ports and 2 hosts"),
        ("host=a,b hostaddr=127.0.0.1", "2 names in host and 1 addresses"),
        ("host=h hostaddr=localhost", "not an IP address"),
        ("host=h port=65536", "not a number from 1 to 65535"),
        ("host=h port=-1", "not a number from 1 to 65535"),
        ("host=h connect_timeout=soon", 'connect_timeout: "soon" is not a whole number'),
        ("host=h target_session_attrs=any-thing", "target_session_attrs"),
        ("host=h load_balance_hosts=yes", "load_balance_hosts"),
        ("host=h channel_binding=yes", "channel_binding"),
        ("host=h require_auth=gss", "can do none of these"),
        ("host=h require_auth=md5,!password", "cannot be mixed"),
        ("host=h require_auth=md5,md5", "given twice"),
        ("host=h require_auth=ssh", '"ssh" is not one of'),
        ("host=h min_protocol_version=3.2 max_protocol_version=3.0", "no version is left"),
        ("host=h max_protocol_version=4.0", '"4.0" is not one of'),
        (f"host=/{'x' * 110}", "longer than 107 bytes"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(read: Any, conninfo: str, words: str) -> None:
    with pytest.raises((ConfigError, UnsupportedError)) as caught:
        read(conninfo)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "conninfo", ["hunter2", "postgresql://u:hunter2@[", "password='hunter2", "h=%zz hunter2"]
)
def test_what_libpq_cannot_read_is_not_shown(read: Any, conninfo: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(conninfo)
    assert "hunter2" not in str(caught.value)


def test_a_nul_does_not_cut_the_string_short(read: Any) -> None:
    with pytest.raises(ConfigError, match="NUL"):
        read("host=a\0 port=1")
    with pytest.raises(ConfigError, match="NUL"):
        read("host=a", password="x\0y")


def test_every_keyword_of_libpq_is_known_to_us() -> None:
    import psycopg

    theirs = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
    assert theirs == _SUPPORTED | set(_UNSUPPORTED) | set(_FIXED)


def test_the_environment_fills_what_is_not_given(read: Any) -> None:
    environ = {"PGHOST": "a", "PGPORT": "1", "PGDATABASE": "d", "PGSSLMODE": "require", "PGTZ": "UTC"}
    found = read("port=2", environ)
    assert str(found.targets[0]) == "a:2"
    assert (found.login.database, found.tls["sslmode"]) == ("d", "require")
    assert found.login.parameters == {"timezone": "UTC"}
    with pytest.raises(UnsupportedError, match="gssencmode"):
        read("", {"PGGSSENCMODE": "require"})


def test_a_service_stands_between_the_string_and_the_environment(read: Any, tmp_path: Path) -> None:
    (tmp_path / ".pg_service.conf").write_text(
        "# mine\n[other]\nhost=o\n\n[shop]\nhost=a\nhost=ignored\nport=7\ndbname=shop\n[behind]\ncolour=red\n"
    )
    found = read("service=shop port=8", {"PGHOST": "e", "PGDATABASE": "e"})
    assert (str(found.targets[0]), found.login.database) == ("a:8", "shop")
    assert str(read("", {"PGSERVICE": "other"}).targets[0]) == "o:5432"
    # One that is given wins over that of the environment, all of it.
    assert str(read("service=other", {"PGSERVICE": "shop"}).targets[0]) == "o:5432"
    with pytest.raises(ConfigError, match='unknown keyword "colour"'):
        read("service=behind")
    with pytest.raises(ConfigError, match='"none" not found'):
        read("service=none")
    with pytest.raises(ConfigError, match="correct PGSERVICEFILE"):
        read("service=shop", {"PGSERVICEFILE": "/nowhere/file"})


def test_a_service_of_the_machine_is_found_behind_the_users_own(read: Any, tmp_path: Path) -> None:
    (tmp_path / "pg_service.conf").write_text("[all]\nhost=m\nservice=loop\n")
    environ = {"PGSYSCONFDIR": str(tmp_path)}
    with pytest.raises(ConfigError, match="cannot refer to another"):
        read("service=all", environ)
    (tmp_path / "pg_service.conf").write_text("[all]\nhost=m\nsecret\n")
    with pytest.raises(ConfigError, match="line 3: keyword=value is wanted") as caught:
        read("service=all", environ)
    assert "secret" not in str(caught.value)


def test_a_password_file_gives_each_host_its_password(read: Any, tmp_path: Path) -> None:
    file = tmp_path / ".pgpass"
    file.write_text(
        "# x\na:1:*:app:for-a\nb:*:shop:app:for\\:b\r\nlocalhost:*:*:*:for-local\n127.0.0.1:*:*:*:ip\n"
    )
    file.chmod(0o600)
    assert [t.password for t in read("postgresql://app@a:1,b:2,c:3/shop").targets] == ["for-a", "for:b", ""]
    assert [t.password for t in read("user=x").targets] == ["for-local"]
    assert [t.password for t in read("hostaddr=127.0.0.1").targets] == ["ip"]
    assert [t.password for t in read("postgresql://app:own@a:1,b:2/shop").targets] == ["own", "own"]
    other = tmp_path / "other"
    other.write_text("*:*:*:*:everywhere")
    other.chmod(0o600)
    assert read("host=h", {"PGPASSFILE": str(other)}).targets[0].password == "everywhere"


def test_a_password_file_that_others_may_read_is_left_out_with_a_warning(
    read: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / ".pgpass"
    file.write_text("*:*:*:*:secret\n")
    file.chmod(0o640)
    with caplog.at_level(logging.WARNING, "heliosproxy.server"):
        assert read("host=h").targets[0].password == ""
        assert read("host=h", {"PGPASSFILE": str(tmp_path)}).targets[0].password == ""
    assert "chmod 0600" in caplog.text
    assert "not a plain file" in caplog.text
    assert "secret" not in caplog.text


_conninfo = st.lists(
    st.sampled_from(
        ["postgresql://", "u", ":", "@", "/", "?", "&", "=", "host", "port", "1", ",", "'", "\\", " "]
    )
    | st.text(max_size=3)
).map("".join)


@settings(deadline=None)
@given(_conninfo)
def test_no_connection_string_breaks_the_reading(conninfo: str) -> None:
    try:
        found = resolve(conninfo, environ={}, home=Path("/nowhere"))
    except (ConfigError, UnsupportedError):
        return
    assert found.targets


_part = st.text(st.sampled_from("ab*:\\\u2028#"), min_size=1, max_size=4)


@settings(deadline=None)
@given(_part, _part, _part, _part)
def test_what_is_escaped_in_a_password_file_is_found_as_it_was(
    host: str, database: str, user: str, word: str
) -> None:
    def escaped(text: str) -> str:
        return text.replace("\\", "\\\\").replace(":", "\\:")

    line = ":".join((escaped(host), "5", escaped(database), escaped(user), escaped(word)))
    expected = None if line.startswith("#") else word
    assert password_for([line], host, 5, database, user) == expected
    if "*" not in (host, database, user):
        assert password_for([line], host + "x", 5, database, user) is None


@settings(deadline=None)
@given(st.text(st.sampled_from("ab*:\\# "), max_size=30))
def test_no_line_breaks_the_password_file(line: str) -> None:
    found = password_for([line], "a", 5, "b", "a")
    assert found is None or line.count(":") >= 4
