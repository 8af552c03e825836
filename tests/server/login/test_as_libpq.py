"""What `resolve` makes of strings, environment and files is what libpq itself makes of them.

libpq has read all of them once a connection is begun; where it is to is nowhere, so nothing is connected to.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import pq
from psycopg.pq.abc import PGconn

from heliosproxy.server.login.keywords import read_keywords
from heliosproxy.server.login.targets import resolve

NOWHERE = "/nowhere"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, and no variable of libpq's."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def _begun(conninfo: str) -> PGconn:
    return pq.PGconn.connect_start(conninfo.encode())


@pytest.mark.parametrize(
    "conninfo",
    [
        f"host={NOWHERE}",
        f"host={NOWHERE} user=u port=7",
        f"host={NOWHERE} service=shop",
        f"host={NOWHERE} service=shop dbname=own port=",
        "postgresql://u:p@%2Fnowhere:9/d?application_name=x&sslmode=disable&service=shop",
        f"host={NOWHERE} sslrootcert=system",
        f"host={NOWHERE} sslmode=disable sslrootcert=/nowhere connect_timeout=3 options='-c geqo=off'",
    ],
)
@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"PGUSER": "e", "PGPORT": "77", "PGDATABASE": "e", "PGAPPNAME": "e", "PGOPTIONS": "-c x.y=1"},
        {"PGSERVICE": "other", "PGSSLMODE": "require", "PGREQUIREAUTH": "!md5"},
        {"PGREQUIRESSL": "1", "PGCONNECT_TIMEOUT": "9", "PGTARGETSESSIONATTRS": "any"},
        {"PGSSLROOTCERT": "system", "PGHOST": "ignored", "PGHOSTADDR": ""},
    ],
)
def test_the_keywords_are_libpqs(
    home: Path, monkeypatch: pytest.MonkeyPatch, conninfo: str, environ: dict[str, str]
) -> None:
    (home / ".pg_service.conf").write_text(
        "[other]\ndbname=other\n application_name=o \n\n# x\n[shop]\nport=8\nuser=s\nport=9\nsslmode=allow\n"
    )
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    theirs = {
        option.keyword.decode(): option.val.decode()
        for option in _begun(conninfo).info
        if option.val is not None
    }
    ours = dict(read_keywords(conninfo, {}, os.environ, home).values)
    # Filled in by libpq once it knows the rest.
    theirs.pop("passfile", None)
    if "sslcertmode" not in ours:
        theirs.pop("sslcertmode", None)
    if not ours.get("dbname"):
        ours["dbname"] = ours["user"]
    if not ours["port"]:
        assert theirs.pop("port") in ("", "5432")
        del ours["port"]
    for name in ("service", "servicefile"):
        theirs.pop(name, None)
        ours.pop(name, None)
    assert ours == theirs


_word = st.text(st.sampled_from("ab*:\\ "), min_size=1, max_size=3)
_line = st.lists(
    st.sampled_from(["a", "b", "*", "\\:", "\\\\", ":", ":", ":", "5", "#", "\\"]), max_size=14
).map("".join)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(_line | st.tuples(_word, _word).map("*:*:*:*:".join), max_size=4),
    st.sampled_from(["a", "b", "a:", "\\"]),
)
def test_the_password_is_the_one_that_libpq_finds(home: Path, lines: list[str], user: str) -> None:
    file = home / ".pgpass"
    file.write_text("\n".join(lines) + "\n")
    file.chmod(0o600)
    quoted = user.replace("\\", "\\\\")
    conninfo = f"hostaddr=127.0.0.1 port=5 dbname=b user='{quoted}' host=a"
    # To a port that nobody listens to, on this machine.
    theirs = _begun(conninfo).password.decode()
    assert resolve(conninfo, environ={}, home=home).targets[0].password == theirs
