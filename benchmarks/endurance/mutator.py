"""Any bytes: messages in any order, a few of them changed, before a login and behind it."""

from __future__ import annotations

import contextlib
import random

from heliosproxy.server.protocol import frontend

from .raw import Peer

PARAMETER = frontend.message(b"B", b"\0s\0" + b"\0\0" + b"\0\1" + b"\0\0\0\1" + b"7" + b"\0\0")
MESSAGES = [
    frontend.query(b"SELECT 1"),
    frontend.query(b"BEGIN"),
    frontend.query(b"COMMIT"),
    frontend.query(b"ROLLBACK"),
    frontend.query(b"SELECT 1/0; SELECT 2"),
    frontend.query(b"SET work_mem TO '5MB'"),
    frontend.query(b"RESET ALL"),
    frontend.query(b"COPY fuzzed FROM STDIN"),
    frontend.query(b"COPY (SELECT generate_series(1, 500)) TO STDOUT"),
    frontend.query(b"SELECT repeat('x', 50) FROM generate_series(1, 300)"),
    frontend.query(b"CREATE TEMP TABLE mine (n int)"),
    frontend.query(b"LISTEN fuzz"),
    frontend.query(b"NOTIFY fuzz"),
    frontend.query(b"SAVEPOINT s"),
    frontend.query(b"ROLLBACK TO s"),
    frontend.query(b"SELECT n FROM fuzzed"),
    frontend.query(b"INSERT INTO fuzzed VALUES (1)"),
    frontend.query(b"DEALLOCATE ALL"),
    frontend.query(b""),
    frontend.query(b"DISCARD ALL"),
    frontend.parse(b"", b"SELECT 1"),
    frontend.parse(b"s", b"SELECT $1::int"),
    frontend.parse(b"t", b"SELECT nothing"),
    frontend.bind_nothing(),
    frontend.bind_nothing(b"t"),
    PARAMETER,
    frontend.describe(ord("S"), b"s"),
    frontend.describe(ord("P"), b""),
    frontend.EXECUTE_ALL,
    frontend.message(b"E", b"\0\0\0\0\1"),
    frontend.close(ord("S"), b"s"),
    frontend.close(ord("P"), b""),
    frontend.SYNC,
    frontend.FLUSH,
    frontend.message(b"d", b"1\n"),
    frontend.message(b"d", b"x" * 3000),
    frontend.message(b"c", b""),
    frontend.copy_fail(b"enough"),
    frontend.message(b"F", b"\0\0\0\1\0\0\0\0\0\0"),
    frontend.password(b"x\0"),
]
_START = frontend.startup({b"user": b"x", b"database": b"y"})
_SASL = frontend.password(b"SCRAM-SHA-256\0\0\0\0\x14n,,n=,r=abcdefghijkl")
_PROOF = frontend.password(b"c=biws,r=abcdefghijkl,p=AAAA")
_HELLO = (
    b"\x16\x03\x01\0\x40\1\0\0\x3c\3\3"
    + bytes(32)
    + b"\0\0\2\x13\1\1\0\0\x11\0\x10\0\x0d\0\x0b\x0apostgresql"
)
BEFORE = [
    _START,
    frontend.ssl_request() + _START,
    frontend.ssl_request() + _HELLO,
    _HELLO,
    frontend.cancel_request(7, b"key!"),
    _START + _SASL,
    _START + _SASL + _PROOF,
    _START + frontend.password(b"guess\0"),
]


def mutated(data: bytearray, chance: random.Random) -> bytes:
    """*data* with a few bytes changed, lost or added."""
    for _ in range(chance.randint(1, 4)):
        if not data:
            break
        place = chance.randrange(len(data))
        kind = chance.random()
        if kind < 0.5:
            data[place] = chance.randrange(256)
        elif kind < 0.75:
            del data[place : place + chance.randint(1, 5)]
        else:
            data[place:place] = chance.randbytes(chance.randint(1, 5))
    return bytes(data)


def stream(chance: random.Random) -> bytes:
    """Messages in any order; in half of the cases a few bytes are changed, lost or added."""
    data = bytearray(b"".join(chance.choices(MESSAGES, k=chance.randint(1, 25))))
    return mutated(data, chance) if chance.random() < 0.5 else bytes(data)


def before_login(chance: random.Random) -> bytes:
    """What is no login, or hardly one."""
    return mutated(bytearray(chance.choice(BEFORE)), chance)


def play(peer: Peer, data: bytes, chance: random.Random) -> None:
    """Send *data* in pieces; then hang up, at once or after reading what there is.

    Raises:
        Stuck: the other side does not hang up, too.
    """
    peer.sock.settimeout(0.05)
    with contextlib.suppress(ConnectionError, TimeoutError):
        at = 0
        while at < len(data):
            step = chance.choice([1, 7, 100, 5000])
            peer.send(data[at : at + step])
            at += step
            if chance.random() < 0.2:
                peer.sock.recv(65536)
    if chance.random() < 0.3:
        peer.close()
        return
    with contextlib.suppress(ConnectionError, TimeoutError):
        peer.send(frontend.SYNC + frontend.TERMINATE)
    peer.sock.settimeout(peer.PATIENCE)
    peer.leaves()
