"""The temporary folder that servers live in, and running programs there."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from psycopg import OperationalError

from heliosproxy.embedded import watchdog
from heliosproxy.errors import HeliosError

_POLL = 0.005


class EmbeddedError(HeliosError, OperationalError):
    """An embedded server, or a program that prepares one, failed or did not reach a state in time."""

    code = "EMBEDDED"


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing uses.

    Below the range from which kernels choose ports of outgoing connections: a server that is killed and
    started again must find its port free.
    """
    for _ in range(100):
        port = 18_000 + secrets.randbelow(14_000)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise EmbeddedError("none of 100 TCP ports tried on 127.0.0.1 was free")


def wait_until(done: Callable[[], bool], timeout: float, what: str) -> None:
    """Polls *done* until it is true.

    Args:
        timeout: seconds.
        what: names the state waited for, in the error.

    Raises:
        EmbeddedError: *timeout* has passed.
    """
    deadline = time.monotonic() + timeout
    while not done():
        if time.monotonic() > deadline:
            raise EmbeddedError(f"waited {timeout:g} s in vain until {what}")
        time.sleep(_POLL)


def server_account() -> pwd.struct_passwd | None:
    """The account that PostgreSQL runs as, or None for our own.

    PostgreSQL refuses to run as root. Root therefore hands over to ``postgres``, ``nobody`` or, where neither
    exists, to the first other account.

    Raises:
        EmbeddedError: we are root and there is no other account.
    """
    if os.geteuid() != 0:
        return None
    accounts = {entry.pw_name: entry for entry in pwd.getpwall() if entry.pw_uid != 0}
    for name in ("postgres", "nobody", *accounts):
        if name in accounts:
            return accounts[name]
    raise EmbeddedError("PostgreSQL does not run as root, and this machine has no other account to run it as")


def reachable(path: Path) -> bool:
    """Whether every account may enter the folders above *path* and read *path* itself."""
    if not path.stat().st_mode & stat.S_IROTH:
        return False
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)


class Home:
    """A temporary folder with its watchdog; both last until :meth:`close`, or until this process dies.

    Attributes:
        path: the folder, readable by its owner only.
        account: who runs the servers and owns the folder; None is the account of this process.
    """

    def __init__(self, account: pwd.struct_passwd | None = None) -> None:
        base = Path(tempfile.gettempdir()).resolve()
        if account is not None and not (reachable(base) and base.stat().st_mode & stat.S_IXOTH):
            base = Path("/tmp")  # noqa: S108 - mkdtemp below makes an unguessable folder with mode 0700 in it
        self.path = Path(tempfile.mkdtemp(prefix="heliosproxy-", dir=base))
        self.account = account
        self.own(self.path)
        self._process = os.getpid()
        # Its own session: Ctrl-C in a terminal must reach our owner only.
        self._watchdog = subprocess.Popen(  # noqa: S603 - our own script, run by our own interpreter
            [sys.executable, "-I", "-S", watchdog.__file__, str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
            cwd="/",
        )

    def own(self, path: Path) -> None:
        """Gives *path* (not what is below it) to the account of the servers."""
        if self.account is not None:
            os.chown(path, self.account.pw_uid, self.account.pw_gid)

    def tell(self, line: str) -> None:
        """Tells the watchdog. One write, so that threads cannot interleave.

        Raises:
            EmbeddedError: the watchdog was killed; servers could outlive us from now on.
        """
        assert self._watchdog.stdin is not None  # noqa: S101 - for mypy: Popen was asked for a pipe
        try:
            self._watchdog.stdin.write(f"{line}\n".encode())
        except BrokenPipeError as error:
            raise EmbeddedError("the watchdog of the embedded servers has been killed") from error

    def popen(self, arguments: Sequence[str | Path], log: Path) -> subprocess.Popen[bytes]:
        """Starts a program as the account of the servers, in this folder, its output appended to *log*."""
        with log.open("ab") as output:
            return subprocess.Popen(  # noqa: S603 - programs of the wheels, with options of our own
                [str(argument) for argument in arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.path,
                env=self._environment(),
                user=None if self.account is None else self.account.pw_uid,
                group=None if self.account is None else self.account.pw_gid,
                extra_groups=None if self.account is None else [],
            )

    def run(self, *arguments: str | Path) -> None:
        """Runs a program to its end as the account of the servers.

        Raises:
            EmbeddedError: it failed; the message ends with what it said.
        """
        log = self.path / f"{Path(arguments[0]).name}.log"
        status = self.popen(arguments, log).wait()
        if status != 0:
            raise EmbeddedError(f"{arguments[0]} ended with status {status}\n{tail(log)}")

    def forked(self) -> bool:
        """Whether we are a fork of the process that made this: then the servers are not ours to end."""
        return os.getpid() != self._process

    def close(self) -> None:
        """Removes the folder and ends the watchdog. The servers must have ended. May be called twice."""
        if self._watchdog.stdin is None or self._watchdog.stdin.closed or self.forked():
            return
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(EmbeddedError):
            self.tell("done")
        self._watchdog.stdin.close()
        self._watchdog.wait()

    def _environment(self) -> Mapping[str, str]:
        # PGPORT, PGOPTIONS and their kin would reach initdb and pg_rewind. LC_ALL: messages in English, and
        # macOS lets a server start only with a valid locale. TZ: initdb would search the whole zone database.
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def tail(log: Path, lines: int = 20) -> str:
    """The last *lines* lines of *log*, indented; a note when there is none."""
    if not log.exists():
        return "    (no log)"
    last = log.read_text(errors="replace").splitlines()[-lines:]
    return "\n".join(f"    {line}" for line in last)
