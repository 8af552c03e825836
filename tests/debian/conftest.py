"""A cluster of Debian's PostgreSQL 15, with TLS and passwords, which the wheel's server lacks."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from heliosproxy.embedded import Cluster

BINDIR = Path("/usr/lib/postgresql/15/bin")
PASSWORD = "s'3 cret\\"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test here is marked; where there is no such server they all skip, and say so."""
    missing = "Debian's postgresql-15 is not installed: TLS, SCRAM and PostgreSQL 15 are NOT tested"
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.debian)
            if not (BINDIR / "postgres").exists() or shutil.which("openssl") is None:
                item.add_marker(pytest.mark.skip(reason=missing))


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(
        ["openssl", *arguments], cwd=folder, check=True, capture_output=True, stdin=subprocess.DEVNULL
    )


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate authority (``ca.crt``) and a server's certificate for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("tls")
    key = ("-newkey", "rsa:2048", "-nodes")
    _openssl(
        folder, "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=test"
    )
    _openssl(folder, "req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=127.0.0.1")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    signing = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names", "-days", "2")
    _openssl(folder, "x509", "-req", "-in", "server.csr", "-out", "server.crt", *signing)
    return folder


@pytest.fixture(scope="session")
def debian(authority: Path) -> Iterator[Cluster]:
    """PostgreSQL 15 on Debian; role ``app`` must use TLS and SCRAM over TCP."""
    hba = ("hostssl all app 127.0.0.1/32 scram-sha-256", "host all app 127.0.0.1/32 reject")
    with Cluster(replicas=0, bindir=BINDIR, hba=hba) as cluster:
        node = cluster.primary
        owner = node.data_dir.stat()
        for name in ("server.crt", "server.key"):
            copy = node.data_dir / name
            copy.write_bytes((authority / name).read_bytes())
            copy.chmod(0o600)
            shutil.chown(copy, owner.st_uid, owner.st_gid)
        node.sql("ALTER SYSTEM SET ssl = on")
        node.sql("SELECT pg_reload_conf()")
        password = psycopg.sql.Literal(PASSWORD).as_string(None)
        node.sql(f"CREATE ROLE app LOGIN PASSWORD {password}")
        node.sql("CREATE DATABASE shop OWNER app")
        yield cluster


@pytest.fixture
def shop(debian: Cluster) -> str:
    """How the superuser connects to database ``shop``."""
    return debian.primary.dsn.removesuffix("postgres") + "shop"


@pytest.fixture
def login(debian: Cluster) -> dict[str, object]:
    """How ``app`` connects to it; TLS is for the test to choose."""
    node = debian.primary
    return {
        "host": node.host,
        "port": node.port,
        "dbname": "shop",
        "user": "app",
        "password": PASSWORD,
        "gssencmode": "disable",
    }
