"""One PostgreSQL server of an embedded cluster."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import psycopg

from heliosproxy.embedded.home import EmbeddedError, Home, free_port, tail, wait_until
from heliosproxy.embedded.server import Server
from heliosproxy.embedded.watchdog import drop_shared_memory

_STOP = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class Node:
    """A PostgreSQL server; made by :class:`heliosproxy.embedded.Cluster` only.

    Attributes:
        name: ``"node0"``, ``"node1"``, ...: keeps through changes of role; also its ``application_name`` as a
            standby.
        host: ``"127.0.0.1"``.
        port: its TCP port; keeps over :meth:`kill` and :meth:`start`.
        socket_dir: folder of its Unix socket: ``host=<socket_dir> port=<port>``. Only the account of the
            servers (and root) may enter it.
        data_dir: PostgreSQL's data directory.
    """

    host = "127.0.0.1"

    def __init__(self, home: Home, bindir: Path, name: str, promoted: Callable[[Node], None]) -> None:
        self.name = name
        self.port = free_port()
        self.socket_dir = home.path
        self.data_dir = home.path / name
        self._home = home
        self._bindir = bindir
        self._promoted = promoted
        self._server = Server(home, name)

    def __repr__(self) -> str:
        return f"<Node {self.name} {self.host}:{self.port} {'alive' if self.alive else 'down'}>"

    @property
    def dsn(self) -> str:
        """``postgresql://postgres@127.0.0.1:PORT/postgres``: the superuser, without a password."""
        return f"postgresql://postgres@{self.host}:{self.port}/postgres"

    @property
    def alive(self) -> bool:
        """Whether the server's main process exists. A frozen server is alive."""
        return self._server.alive

    def log_tail(self, lines: int = 20) -> str:
        """The last *lines* lines of the server's log."""
        return tail(self._server.log, lines)

    def lost_port(self) -> bool:
        """Whether it is down because another process has its port."""
        return not self.alive and "Address already in use" in self.log_tail()

    def start(self) -> None:
        """Starts the server, with crash recovery if need be, and waits until it accepts connections.

        Nothing happens when it is alive.

        Raises:
            EmbeddedError: it did not start; the message ends with the tail of its log.
        """
        if self.alive:
            return
        self._server.launch(
            # On the command line, because pg_rewind copies the configuration files from one node to another.
            [
                self._bindir / "postgres",
                *("-D", self.data_dir),
                *("-p", str(self.port)),
                *("-k", self.socket_dir),
                *("-c", f"cluster_name={self.name}"),
            ],
            self._ready,
        )

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast", timeout: float = 60.0) -> None:
        """Shuts the server down, as ``pg_ctl stop`` does; a frozen one is thawed first.

        Args:
            mode: ``"smart"`` waits until every client has left, ``"fast"`` ends their sessions,
                ``"immediate"`` ends without a checkpoint, so that the next start recovers as after a crash.
            timeout: seconds.

        Raises:
            EmbeddedError: it runs still after *timeout*.
        """
        self._server.thaw()
        self._server.signal(_STOP[mode])
        wait_until(lambda: not self.alive, timeout, f"{self.name} has shut down")

    def kill(self) -> None:
        """``kill -9`` of every process of the server, and removal of what it leaves behind.

        Clients see the connection close at once, as when a machine's process dies, not when its network does
        (that is :meth:`freeze`). :meth:`start` works afterwards.
        """
        self._server.kill()
        drop_shared_memory(self.data_dir)
        for left in (
            self.data_dir / "postmaster.pid",
            self.socket_dir / f".s.PGSQL.{self.port}",
            self.socket_dir / f".s.PGSQL.{self.port}.lock",
        ):
            left.unlink(missing_ok=True)

    def freeze(self) -> None:
        """Stops every process of the server (SIGSTOP): connections stay open, nothing answers."""
        self._server.freeze()

    def thaw(self) -> None:
        """Lets a frozen server go on (SIGCONT)."""
        self._server.thaw()

    def promote(self, timeout: float = 60.0) -> None:
        """Makes a standby the primary, ``cluster.primary`` from now on; returns when it accepts writes.

        The old primary is not touched: kill or stop it before, or there are two. Other standbys still follow
        the old one: :meth:`rejoin` each. The new primary is asynchronous until ``cluster.synchronous(True)``.

        Args:
            timeout: seconds.

        Raises:
            EmbeddedError: it is still in recovery after *timeout*.
            psycopg.Error: it is not a standby, or cannot be reached.
        """
        self.sql("SELECT pg_promote(wait => false)")
        wait_until(lambda: not self.in_recovery(), timeout, f"{self.name} is promoted")
        self._promoted(self)

    def rejoin(self, primary: Node) -> None:
        """Makes this node a standby of *primary*, whatever it was before; returns when it accepts queries.

        What it has committed and *primary* never received is thrown away (``pg_rewind``). A running server is
        shut down first; a killed one is recovered by pg_rewind itself.

        Raises:
            EmbeddedError: pg_rewind failed or the server did not start; the message ends with its log's tail.
            psycopg.Error: *primary* cannot be reached.
        """
        self.stop()
        # Until its first checkpoint a promoted server's control file still names the old timeline, and
        # pg_rewind would believe that nothing has diverged.
        primary.sql("CHECKPOINT")
        # pg_rewind recovers a killed server in single-user mode, which refuses to be a standby.
        (self.data_dir / "standby.signal").unlink(missing_ok=True)
        self._home.run(
            self._bindir / "pg_rewind",
            *("--target-pgdata", self.data_dir),
            *("--source-server", primary.conninfo),
            "--no-sync",
        )
        self.follow(primary)
        self.start()

    @property
    def conninfo(self) -> str:
        """How the cluster itself connects: as superuser over the Unix socket, which no *hba* line forbids."""
        return f"host={self.socket_dir} port={self.port} user=postgres dbname=postgres"

    def follow(self, primary: Node) -> None:
        """Makes this node, which must be down, a standby of *primary* from its next start."""
        settings = self.data_dir / "postgresql.auto.conf"
        upstream = f"host={primary.host} port={primary.port} user=postgres application_name={self.name}"
        with settings.open("a") as file:
            # The last line of a name wins; pg_rewind may have brought the primary's own lines.
            file.write(f"primary_conninfo = '{upstream}'\nsynchronous_standby_names = ''\n")
        marker = self.data_dir / "standby.signal"
        marker.touch(mode=0o600)
        for file_name in (settings, marker):
            self._home.own(file_name)

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Runs one statement as superuser on a connection of its own, in autocommit.

        Returns:
            Its rows; an empty list when it returns none.
        """
        with psycopg.connect(self.conninfo, autocommit=True, connect_timeout=10) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def in_recovery(self) -> bool:
        """Whether the server is a standby."""
        return bool(self.sql("SELECT pg_is_in_recovery()")[0][0])

    def close(self) -> None:
        """Ends the server for good: quickly and without a checkpoint."""
        try:
            # Unlike kill -9 this gives the System V shared memory back by itself.
            self.stop("immediate", timeout=5)
        except EmbeddedError:
            self.kill()
        drop_shared_memory(self.data_dir)

    def _ready(self) -> bool:
        try:
            lines = (self.data_dir / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        # The eighth line is the status. It is what pg_ctl reads; connecting would write errors into the log.
        return len(lines) >= 8 and lines[7].strip() == "ready"
