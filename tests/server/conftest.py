"""Servers of the wire face: a Proxy served from a thread, over a real database."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

import heliosproxy
from heliosproxy.server.running import Serving
from tests.server.processes import Process, Start


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(
        ["openssl", *arguments], cwd=folder, check=True, capture_output=True, stdin=subprocess.DEVNULL
    )


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``ca.crt``; ``server`` for localhost and ``app`` for a client, both signed by it; ``other.crt``, a stranger."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: TLS is NOT tested")
    folder = tmp_path_factory.mktemp("tls")
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "other"):
        _openssl(
            folder, "req", "-x509", *new, "-keyout", f"{name}.key", "-out", f"{name}.crt", "-days", "2",
            "-subj", f"/CN={name}",
        )  # fmt: skip
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for name in ("server", "app"):
        _openssl(
            folder, "req", *new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/O=x/CN={name}"
        )
        signing = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"]
        extra = ["-extfile", "names"] if name == "server" else []
        _openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.crt", *signing, *extra)
    # Two revocation lists, one of which has nothing in it.
    (folder / "index").write_text("")
    (folder / "ca.conf").write_text(
        "[ca]\ndefault_ca=x\n[x]\ndatabase=index\ndefault_md=sha256\ndefault_crl_days=2\n"
    )
    ours = ("ca", "-config", "ca.conf", "-keyfile", "ca.key", "-cert", "ca.crt")
    _openssl(folder, *ours, "-gencrl", "-out", "none.crl")
    _openssl(folder, *ours, "-revoke", "server.crt")
    _openssl(folder, *ours, "-gencrl", "-out", "server.crl")
    return folder


class Served:
    """One server and its clients; closed, and found empty, behind the test.

    Attributes:
        proxy: the Proxy that is served.
        url: where its clients connect.
        dsn: the database itself.
    """

    def __init__(self, dsn: str, **options: Any) -> None:
        self.dsn = dsn
        stages, sections = options.pop("stages", ()), options.pop("sections", {})
        addresses = options.pop("addresses", ())
        config = {"node": [{"name": "primary", "dsn": dsn}], **sections}
        self.proxy = heliosproxy.Proxy(config, stages=stages, **options)
        self.serving = Serving(self.proxy, own=False, addresses=addresses)
        self.url = self.serving.url
        self._clients: list[Any] = []

    def connect(self, **keywords: Any) -> psycopg.Connection[Any]:
        """A client, in autocommit unless it says otherwise."""
        client = psycopg.connect(self.url, **{"autocommit": True, **keywords})
        self._clients.append(client)
        return client

    def direct(self, **keywords: Any) -> psycopg.Connection[Any]:
        """A connection past the proxy."""
        client = psycopg.connect(self.dsn, **{"autocommit": True, **keywords})
        self._clients.append(client)
        return client

    @property
    def pool(self) -> dict[str, Any]:
        """The numbers of the one pool."""
        (pool,) = self.proxy.stats()["pools"].values()
        return pool  # type: ignore[no-any-return]

    @property
    def leased(self) -> int:
        """Server connections leased now."""
        pools = self.proxy.stats()["pools"].values()
        return int(sum(pool["pool_size"] - pool["pool_available"] for pool in pools))

    def settles(self, leased: int = 0) -> bool:
        """Whether so many are leased soon: what a client sees comes before its lease is back."""
        with psycopg.connect(self.dsn, autocommit=True) as clock:
            for _ in range(500):
                if self.leased == leased:
                    return True
                clock.execute("SELECT pg_sleep(0.01)")
        return False

    def close(self) -> None:
        for client in self._clients:
            client.close()
        try:
            pools = self.proxy.stats()["pools"]
            assert not pools or self.settles(), f"server connections still leased: {pools}"
        finally:
            self.serving.close()
            self.proxy.close()


@pytest.fixture
def served(dsn: str) -> Iterator[Callable[..., Served]]:
    """``served("transaction", helios_cache=True)``: a server in this mode."""
    made: list[Served] = []

    def make(mode: str = "transaction", **options: Any) -> Served:
        made.append(Served(dsn, helios_mode=mode, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def start() -> Iterator[Start]:
    """Start ``heliosproxy serve`` with these arguments; killed behind the test if it still runs."""
    running = []

    def started(*arguments: str, **environment: str) -> Process:
        command = [sys.executable, "-m", "heliosproxy", "serve", *arguments]
        env = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
        )
        running.append(process)
        return process

    yield started
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def one_server(served: Callable[..., Served]) -> Served:
    """Transaction mode with a single server connection: who comes next gets the one before's."""
    return served("transaction", helios_server_connections=1, helios_pool_timeout=5)


@pytest.fixture
def direct(one_server: Served) -> psycopg.Connection[Any]:
    """A connection past the proxy."""
    return one_server.direct()
