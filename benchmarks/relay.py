"""A TCP relay that delays: a network of a given latency on one machine.

    python -m benchmarks.relay HOST PORT [--delay SECONDS]

Prints the port it listens on, and ends when its standard input does. Each direction holds what it has read for
the delay, and goes on reading meanwhile: bytes that follow each other closely arrive so, as on a long cable.
Threads, because asyncio's timers go by whole milliseconds.
"""

from __future__ import annotations

import argparse
import contextlib
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from .common import ROOT

_CHUNK = 65536


def _carry(source: socket.socket, sink: socket.socket, delay: float) -> None:
    """Carry bytes from *source* to *sink*, each *delay* seconds after it came, until *source* ends."""
    line: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

    def deliver() -> None:
        with contextlib.suppress(OSError):
            while True:
                due, chunk = line.get()
                left = due - time.monotonic()
                if left > 0:
                    time.sleep(left)
                if not chunk:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(chunk)

    threading.Thread(target=deliver, daemon=True).start()
    chunk = b"more"
    while chunk:
        try:
            chunk = source.recv(_CHUNK)
        except OSError:
            chunk = b""
        line.put((time.monotonic() + delay, chunk))


def serve(host: str, port: int, delay: float, listener: socket.socket) -> None:
    """Relay each connection to *listener* to *host*, *port*; never returns."""
    while True:
        client, _ = listener.accept()
        upstream = socket.create_connection((host, port))
        for sock in (client, upstream):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for pair in ((client, upstream), (upstream, client)):
            threading.Thread(target=_carry, args=(*pair, delay), daemon=True).start()


@contextlib.contextmanager
def relay(dsn: str, delay: float) -> Iterator[str]:
    """A DSN that leads to the server of *dsn*, *delay* seconds away; the relay is a process of its own."""
    parts = conninfo_to_dict(dsn)
    command = [sys.executable, "-m", "benchmarks.relay", str(parts["host"]), str(parts["port"])]
    process = subprocess.Popen(
        [*command, "--delay", str(delay)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the relay has no pipes")
        port = process.stdout.readline().strip()
        if not port:
            raise RuntimeError("the relay did not start")
        yield make_conninfo(dsn, host="127.0.0.1", port=port)
        process.stdin.close()
        process.wait(10)
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Listen, say where, and relay until standard input ends."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--delay", type=float, default=0.005, help="seconds, each way; default 0.005")
    options = parser.parse_args()
    # Both threads of a direction are short of work: let the one that wakes have the interpreter at once.
    sys.setswitchinterval(0.0005)
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    arguments = (options.host, options.port, options.delay, listener)
    threading.Thread(target=serve, args=arguments, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
