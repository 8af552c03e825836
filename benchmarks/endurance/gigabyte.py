"""A gigabyte through SELECT and COPY, both ways: the most memory that the server holds meanwhile."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from heliosproxy.server.protocol import frontend

from ..common import bar
from .raw import HEAD, Peer, names
from .served import Server, serving

WIDTH = 100_000
LINE = frontend.message(b"d", b"x" * (WIDTH - 1) + b"\n")
SWALLOWING = (
    "CREATE TEMP TABLE big (t text)",
    "CREATE FUNCTION pg_temp.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "CREATE TRIGGER t BEFORE INSERT ON big FOR EACH ROW EXECUTE FUNCTION pg_temp.nothing()",
)
SLOW = 0.002
"""Seconds that a slow reader does nothing after each read: what the server sends comes faster."""


def receive(peer: Peer, text: str, pause: float = 0.0) -> int:
    """Bytes of the answer to *text*, of which nothing is kept.

    Raises:
        ConnectionError: it was hung up on, or told an error.
    """
    peer.send(frontend.query(text.encode()))
    total, head, left, room = 0, b"", 0, bytearray(1 << 18)
    while True:
        size = peer.sock.recv_into(room)
        if not size:
            raise ConnectionError(f"hung up on after {total:,} bytes")
        total += size
        if pause:
            time.sleep(pause)  # a slow reader
        at = min(left, size)
        left -= at
        while at < size:
            taken = room[at : min(at + 5 - len(head), size)]
            head += taken
            at += len(taken)
            if len(head) < 5:
                break
            kind, length = HEAD.unpack(head)
            if kind == b"E":
                raise ConnectionError(f"an error after {total:,} bytes: {bytes(room[at:size])!r}")
            head, left = b"", length - 4
            if kind == b"Z":
                return total
            step = min(left, size - at)
            at, left = at + step, left - step


def copy_in(peer: Peer, lines: int, line: bytes = LINE) -> int:
    """Bytes of *lines* messages of COPY data, which a trigger throws away."""
    for text in SWALLOWING:
        peer.ask(text)
    peer.send(frontend.query(b"COPY big FROM STDIN"))
    peer.until(b"G")
    for _ in range(lines):
        peer.send(line)
    peer.send(frontend.message(b"c", b""))
    found = peer.answer()
    if any(kind == b"E" for kind, _ in found):
        raise ConnectionError(f"COPY failed: {found}")
    return lines * len(line)


def ways(size: int) -> dict[str, Any]:
    """How *size* bytes pass, by name; each is called with a client."""
    wide = f"SELECT repeat('x', {WIDTH}) FROM generate_series(1, {size // WIDTH})"
    narrow = f"SELECT repeat('x', 100), i FROM generate_series(1, {size // 120}) AS i"
    one = f"SELECT repeat('x', {size // 4})"
    return {
        "SELECT, rows of 100 kB": lambda peer: receive(peer, wide),
        "SELECT, rows of 120 bytes": lambda peer: receive(peer, narrow),
        "SELECT, a quarter of it in one value": lambda peer: receive(peer, one),
        "SELECT, to a slow reader": lambda peer: receive(peer, wide, SLOW),
        "COPY TO": lambda peer: receive(peer, f"COPY ({wide}) TO STDOUT"),
        "COPY FROM": lambda peer: copy_in(peer, size // WIDTH),
    }


def growth(server: Server, peer: Peer, way: Any) -> tuple[int, int]:
    """Bytes that passed, and how much more than before the server held at most."""
    before = server.memory()
    server.forget_peak()
    total = way(peer)
    return total, server.memory("VmHWM") - before


def part(dsn: str, seconds: float | None, quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """The figures, and the bars."""
    rows, bars = {}, {}
    for cache in (False, True):
        with serving(dsn, "transaction", *(["--cache"] if cache else []), pool=5) as server:
            for name, way in ways(20_000_000 if quick else 1_000_000_000).items():
                with contextlib.closing(Peer(server.where, names(dsn))) as peer:
                    peer.ask("SELECT 1")
                    began = time.monotonic()
                    total, grown = growth(server, peer, way)
                    took = time.monotonic() - began
                label = f"{name}{', with the cache' if cache else ''}"
                rows[label] = {"MB": total / 1e6, "seconds": took, "growth, MB": grown / 1e6}
                bars[f"gigabyte: {label}, growth in MB"] = bar(grown / 1e6, 64.0)
    return rows, bars
