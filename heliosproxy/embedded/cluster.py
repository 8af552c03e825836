"""A PostgreSQL primary with streaming replicas, in a temporary folder."""

from __future__ import annotations

import atexit
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

from heliosproxy.embedded.home import EmbeddedError, Home, free_port, server_account, wait_until
from heliosproxy.embedded.install import make_data_dirs, programs
from heliosproxy.embedded.node import Node

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "max_prepared_transactions": "10",
    "shared_buffers": "64MB",
    # Files in the data directory: the POSIX kind would outlive a killed server in /dev/shm.
    "dynamic_shared_memory_type": "mmap",
    "wal_level": "logical",
    "hot_standby": "on",
    "wal_log_hints": "on",  # pg_rewind needs it where data checksums are off (before PostgreSQL 18)
    # What a node may miss and still catch up with. A replication slot would not survive a promotion.
    "wal_keep_size": "1GB",
    "wal_retrieve_retry_interval": "100ms",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "timezone": "UTC",
}
_PORT_TRIES = 3
_NOT_DURABLE = {"fsync": "off"}  # full_page_writes stays on: pg_rewind needs it
# The first line lets the cluster itself in, whatever the user's lines say.
_HBA_OURS = ("local all postgres trust", "host replication postgres 127.0.0.1/32 trust")
_HBA_DEFAULT = (
    "local all all trust",
    "host all all 127.0.0.1/32 trust",
    "host replication all 127.0.0.1/32 trust",
)


class Cluster:
    """A primary and streaming replicas; a context manager that starts and ends them.

    ::

        with Cluster(replicas=1) as cluster:
            psycopg.connect(cluster.primary.dsn)

    The servers listen on free ports of 127.0.0.1 and on Unix sockets in a temporary folder. By default
    everybody on this machine may connect as superuser: for tests and demonstrations only. Locale C.UTF-8,
    encoding UTF8, time zone UTC. The folder and every process are gone after the ``with`` block, at the end
    of the interpreter, and also when this process and its forks are killed with ``kill -9``.

    As root the servers run as another account (``postgres`` or ``nobody``).

    Args:
        replicas: how many standbys, 0 or more.
        synchronous: whether commits wait for the first replica; see :meth:`synchronous`.
        settings: server settings (postgresql.conf) of every node, over the defaults of this class.
        hba: lines for pg_hba.conf, which win over the default (trust from this machine), for instance
            ``"host all app 127.0.0.1/32 scram-sha-256"``.
        durable: whether servers force data to disk (fsync). False is faster, and loses nothing when a server
            is killed, only when the machine is.
        bindir: a folder with another PostgreSQL's programs (15 or later); None is the one from the wheel.

    Entering raises:
        UnsupportedError: *bindir* is None and ``heliosproxy[embedded]`` is not installed.
        ConfigError: *bindir* lacks a program.
        EmbeddedError: a server did not start; the message ends with the tail of its log.
    """

    def __init__(
        self,
        replicas: int = 1,
        synchronous: bool = False,
        settings: Mapping[str, str] | None = None,
        *,
        hba: Sequence[str] = (),
        durable: bool = False,
        bindir: str | os.PathLike[str] | None = None,
    ) -> None:
        self._replicas = replicas
        self._synchronous = synchronous
        self._settings = {**_SETTINGS, **({} if durable else _NOT_DURABLE), **(settings or {})}
        self._hba = (*_HBA_OURS, *hba, *_HBA_DEFAULT)
        self._bindir = bindir
        self._home: Home | None = None
        self._nodes: list[Node] = []
        self._primary: Node | None = None

    @property
    def nodes(self) -> Sequence[Node]:
        """Every node, in the order of creation, whatever its role."""
        return tuple(self._nodes)

    @property
    def primary(self) -> Node:
        """The current primary: the first node, until :meth:`Node.promote` makes another one.

        Raises:
            RuntimeError: the cluster is not running.
        """
        if self._primary is None:
            raise RuntimeError("the cluster is not running: use it as a context manager")
        return self._primary

    @property
    def replicas(self) -> Sequence[Node]:
        """Every node but the primary, in the order of creation; also those that are down or not rejoined."""
        return tuple(node for node in self._nodes if node is not self._primary)

    def synchronous(self, on: bool, timeout: float = 10.0) -> None:
        """Makes commits on the primary wait for a standby, or not, from now on.

        The standby is the first one connected, in the order of :attr:`replicas`; while none is connected
        commits wait for ever. Returns when the switch is effective: when a replica is alive this includes
        that one has become the synchronous standby.

        Args:
            timeout: seconds.

        Raises:
            EmbeddedError: no replica became synchronous within *timeout*, although one is alive.
        """
        names = ", ".join(node.name for node in self.replicas)
        value = f"FIRST 1 ({names})" if on else ""
        primary = self.primary
        primary.sql(f"ALTER SYSTEM SET synchronous_standby_names = '{value}'")
        primary.sql("SELECT pg_reload_conf()")
        expected = on and any(node.alive for node in self.replicas)
        query = (
            "SELECT current_setting('synchronous_standby_names'), EXISTS"
            " (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')"
        )
        wait_until(lambda: primary.sql(query) == [(value, expected)], timeout, f"synchronous is {on}")
        # What commits look at is in shared memory and written by the checkpointer. By now its reload is
        # pending, and it reloads before it serves a request.
        primary.sql("CHECKPOINT")

    def wait_caught_up(self, timeout: float = 10.0) -> None:
        """Waits until every living replica has replayed what the primary has written so far.

        Commits made with ``synchronous_commit = off`` count once the primary has written them, about 0.2 s
        later.

        Args:
            timeout: seconds for all together.

        Raises:
            EmbeddedError: a replica is still behind.
            psycopg.OperationalError: a replica is frozen; comes after 10 s.
        """
        position = self.primary.sql("SELECT pg_current_wal_lsn()")[0][0]
        query = f"SELECT coalesce(pg_last_wal_replay_lsn() >= '{position}', false)"
        waiting = [node for node in self.replicas if node.alive]

        def caught_up() -> bool:
            while waiting and waiting[0].sql(query)[0][0]:
                waiting.pop(0)
            return not waiting

        wait_until(caught_up, timeout, f"the replicas have replayed {position}")

    def __enter__(self) -> Self:
        self._home = Home(server_account())
        atexit.register(self.close)
        try:
            self._start(self._home)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the servers and removes the folder. May be called twice; nothing happens in a fork."""
        if self._home is None or self._home.forked():
            return
        for node in self._nodes:
            node.close()
        self._home.close()
        atexit.unregister(self.close)
        self._home, self._primary, self._nodes = None, None, []

    def _start(self, home: Home) -> None:
        bindir = programs(self._bindir, home)
        nodes = [Node(home, bindir, f"node{number}", self._promoted) for number in range(self._replicas + 1)]
        self._nodes = nodes
        self._primary = primary = nodes[0]
        # A copy of a cleanly stopped primary is a standby already: it needs no base backup.
        make_data_dirs(bindir, home, [node.data_dir for node in nodes])
        for node in nodes:
            self._configure(node)
            if node is not primary:
                node.follow(primary)
        for again in range(_PORT_TRIES, -1, -1):
            try:
                with ThreadPoolExecutor(len(nodes)) as pool:
                    list(pool.map(Node.start, nodes))
                break
            except EmbeddedError:
                # Between our look at a port and the server's bind somebody may have taken it.
                if not again or not any(node.lost_port() for node in nodes):
                    raise
                self._move(primary)
        wait_until(self._all_stream, 30, "every replica streams from the primary")
        if self._synchronous:
            self.synchronous(True)

    def _move(self, primary: Node) -> None:
        """Every node to another port, for a new start."""
        for node in self._nodes:
            node.close()
            node.port = free_port()
        for node in self._nodes:
            if node is not primary:
                node.follow(primary)

    def _configure(self, node: Node) -> None:
        def quoted(value: str) -> str:
            return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"

        lines = [f"{name} = {quoted(value)}\n" for name, value in self._settings.items()]
        with (node.data_dir / "postgresql.conf").open("a") as file:
            file.writelines(lines)
        (node.data_dir / "pg_hba.conf").write_text("\n".join(self._hba) + "\n")

    def _all_stream(self) -> bool:
        query = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
        return not self._replicas or bool(self.primary.sql(query)[0][0] == self._replicas)

    def _promoted(self, node: Node) -> None:
        self._primary = node
