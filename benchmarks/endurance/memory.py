"""What one more idle client costs the server: logged in, and after a transaction; over TCP, and over TLS.

The server is warm before it is measured: some clients are there, have done transactions, and stay, so that no memory of
theirs is used again.
"""

from __future__ import annotations

import contextlib
import ssl
import tempfile
from pathlib import Path
from typing import Any

from heliosproxy.server.protocol import frontend

from ..common import bar
from .raw import Peer, closing_all, names
from .served import Server, certificate, serving, soon

WARM = 100
EXTENDED = b"".join(
    (
        frontend.parse(b"", b"SELECT 1"),
        frontend.bind_nothing(),
        frontend.describe(ord("P"), b""),
        frontend.EXECUTE_ALL,
        frontend.SYNC,
    )
)
TRANSACTION = (frontend.query(b"BEGIN"), EXTENDED, frontend.query(b"SELECT 2"), frontend.query(b"COMMIT"))


def _transact(peer: Peer) -> None:
    for message in TRANSACTION:
        peer.send(message)
        if any(kind == b"E" for kind, _ in peer.answer()):
            raise AssertionError(f"{message!r} failed")


def _idle(server: Server, clients: int) -> int:
    """Bytes the server holds when it has nothing to do for *clients*."""

    # Not SHOW CLIENTS: a table of thousands of rows takes memory, too.
    def rests() -> bool:
        (pool,) = server.console("SHOW POOLS")
        return (pool["cl_active"], pool["cl_waiting"], pool["sv_active"]) == (clients, 0, 0)

    if not soon(rests):
        raise AssertionError(f"{server.console('SHOW POOLS')}, not {clients} idle clients")
    return server.memory()


def measure(dsn: str, clients: int, tls: tuple[Path, Path] | None) -> dict[str, Any]:
    """One run: bytes per client."""
    context = None
    if tls is not None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    # What drivers say at least: user, database, and who they are.
    startup = names(dsn, application_name="endurance", client_encoding="UTF8")
    with serving(dsn, tls=tls) as server, contextlib.ExitStack() as stack:
        peers: list[Peer] = stack.enter_context(closing_all([]))

        def come(count: int) -> None:
            for _ in range(count):
                peers.append(Peer(server.where, startup, context))

        come(WARM)
        for _ in range(20):
            for peer in peers:
                _transact(peer)
        before = _idle(server, WARM)
        come(clients)
        logged_in = _idle(server, WARM + clients)
        for peer in peers[WARM:]:
            _transact(peer)
        after = _idle(server, WARM + clients)
        return {
            "clients": clients,
            "server warm, MB": before / 1e6,
            "kB each, logged in": (logged_in - before) / clients / 1000,
            "kB each, after a transaction": (after - before) / clients / 1000,
        }


def part(dsn: str, seconds: float | None, quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """The figures, and the bars."""
    clients = 300 if quick else 5000
    rows, bars = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, tls, most in (("TCP", None, 5.0), ("TLS", certificate(Path(folder)), 30.0)):
            row = rows[name] = measure(dsn, clients, tls)
            for when in ("logged in", "after a transaction"):
                bars[f"memory: {name}, {when}, kB per idle client"] = bar(row[f"kB each, {when}"], most)
    return rows, bars
