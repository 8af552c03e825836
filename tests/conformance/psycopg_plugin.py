"""A pytest plugin that puts heliosproxy's classes in the place of psycopg's, for psycopg's own suite.

Loaded with ``-p psycopg_plugin`` and this folder on PYTHONPATH (not as ``tests.conformance.…``: the suite is
a package named ``tests``, too), hence before the suite's conftest imports psycopg. Needs nothing but the
environment, so a single test can be run by hand; all variables are optional:

    HELIOSPROXY_CONFORMANCE_MODE     the variant, "stock" by default; see `variant_options`
    HELIOSPROXY_CONFORMANCE_REPORT   file that gets one JSON object per event; see `Recorder`
    HELIOSPROXY_CONFORMANCE_TIMEOUT  seconds for each phase of a test, 60 by default, 0 is none
"""

from __future__ import annotations

import asyncio
import atexit
import faulthandler
import functools
import gc
import importlib
import inspect
import json
import os
import pkgutil
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, ModuleType
from typing import Any, TextIO

import psycopg
import pytest

import heliosproxy


def _take(name: str, default: str = "") -> str:
    # Out of the environment at once: heliosproxy refuses a HELIOSPROXY_ variable that is no key of its
    # configuration, in this process and in those that tests start.
    return os.environ.pop(f"HELIOSPROXY_CONFORMANCE_{name}", default)


VARIANT = _take("MODE", "stock")
REPORT = _take("REPORT")
TIMEOUT = float(_take("TIMEOUT", "60"))
# The interpreter ends here, when neither a signal nor a cancellation gets through.
HARD_TIMEOUT = 2 * TIMEOUT
# So many are one fault seen many times: the run ends, rather than an hour later.
MAX_HANGS = 10
# pytest captures file descriptor 2 once it has parsed its options: a copy still reaches the log.
_STDERR: TextIO = os.fdopen(os.dup(2), "w")


def variant_options(variant: str) -> dict[str, Any]:
    """The ``helios_`` options of connect() for a variant.

    That is ``session`` or ``transaction``, then any of ``+cache`` and ``+stock-cursors``.

    Raises:
        ValueError: it is none.
    """
    mode, *extras = variant.split("+")
    if mode not in ("session", "transaction") or not {"cache", "stock-cursors"}.issuperset(extras):
        raise ValueError(f"no such variant: {variant}")
    return {"helios_mode": mode, **({"helios_cache": True} if "cache" in extras else {})}


def replace(variant: str) -> None:
    """Replaces connect() and every class of psycopg that heliosproxy.dbapi subclasses under the same name.

    ``stock`` replaces nothing. ``thin`` replaces the two connection classes by subclasses with an empty body:
    what subclassing alone breaks. ``+stock-cursors`` leaves all but the connections and connect() as they
    are: an application that imports its cursor classes from psycopg.
    """
    if variant == "stock":
        return
    if variant == "thin":
        names: dict[str, Any] = {
            name: type(name, (getattr(psycopg, name),), {}) for name in ("Connection", "AsyncConnection")
        }
    else:
        options = variant_options(variant)
        dbapi = _spared()
        names = {}
        for name in psycopg.__all__:
            theirs, ours = getattr(psycopg, name), getattr(dbapi, name, None)
            if ours is not theirs and isinstance(ours, type) and issubclass(ours, theirs):
                names[name] = ours
        missing = {"Connection", "AsyncConnection"} - names.keys()
        if missing:
            raise pytest.UsageError(f"heliosproxy.dbapi has no {' and no '.join(sorted(missing))}")
        if variant == "session":
            # Without a path the default cursors are those that leave psycopg's methods alone.
            names["Cursor"] = importlib.import_module("heliosproxy.dbapi.cursors").PlainCursor
            names["AsyncCursor"] = importlib.import_module("heliosproxy.dbapi.cursors_async").AsyncPlainCursor
        if "stock-cursors" in variant:
            names = {name: names[name] for name in ("Connection", "AsyncConnection")}
        for name in ("Connection", "AsyncConnection"):
            _preset(names[name], options)
    for name, ours in names.items():
        # The suite looks for the public name in a repr, and that is psycopg.Cursor as long as ours stands there.
        ours.__module__ = "psycopg"
        ours.__name__ = ours.__qualname__ = name
        setattr(psycopg, name, ours)
    psycopg.connect = names["Connection"].connect


def _spared() -> ModuleType:
    """heliosproxy.dbapi; all of heliosproxy goes on seeing psycopg as it was.

    It is itself a user of psycopg.connect(), at run time, and would meet itself there.
    """
    before = ModuleType("psycopg")
    vars(before).update(vars(psycopg))
    for found in pkgutil.walk_packages(heliosproxy.__path__, "heliosproxy."):
        try:
            module = importlib.import_module(found.name)
        except ImportError:  # of an extra that is not installed
            continue
        if vars(module).get("psycopg") is psycopg:
            vars(module)["psycopg"] = before
    return importlib.import_module("heliosproxy.dbapi")


def _preset(cls: Any, options: dict[str, Any]) -> None:
    """Makes ``cls.connect()`` pass *options* where the caller does not; the class stays what it is."""
    connect = cls.__dict__["connect"].__func__

    @functools.wraps(connect)
    def preset(subclass: Any, *args: Any, **kwargs: Any) -> Any:
        return connect(subclass, *args, **{**options, **kwargs})

    cls.connect = classmethod(preset)


def pin_share() -> dict[str, Any] | None:
    """How many leases of the whole run were pinned: ``{"leases": n, "pinned": n, "reasons": {...}}``.

    Over all implicit Proxies, which is every connection the suite makes. None without heliosproxy.
    """
    proxy = sys.modules.get("heliosproxy.proxy")
    if VARIANT in ("stock", "thin") or proxy is None:
        return None
    reasons: Counter[str] = Counter()
    leases = 0
    for implicit in list(proxy._implicit.values()):
        stats = implicit.stats()
        reasons.update(stats["pins"])
        leases += sum(int(pool["requests_num"]) for pool in stats["pools"].values())
    return {"leases": leases, "pinned": reasons.total(), "reasons": dict(reasons.most_common())}


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    replace(VARIANT)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Recorder(REPORT) if REPORT else object())
    if TIMEOUT and not config.getoption("usepdb"):
        config.pluginmanager.register(Timeouts())


class Recorder:
    """Writes ``{"start": id}`` and ``{"id", "outcome", "line", "seconds"}`` per test, then ``{"end": pins}``.

    The last event is ``{"exit": true}``, when no thread was left behind that kept the interpreter from ending.

    Tests that the file has already are deselected: when the interpreter died on one, the next one goes on
    behind it.
    """

    # The outcome of a test is the worst of its phases.
    RANKS = ("passed", "xfailed", "xpassed", "skipped", "error", "failed", "hang")

    def __init__(self, path: str) -> None:
        self._file = open(path, "a+", buffering=1)  # noqa: SIM115 - as long as the process
        self._file.seek(0)
        events = [json.loads(line) for line in self._file]
        self._done = {event.get("id") or event.get("start") for event in events}
        self._worst = ("passed", "")
        self._began = 0.0
        self._hangs = 0
        self._session: pytest.Session | None = None
        # Runs when the threads have ended, and, first come last served, behind everybody else's.
        atexit.register(self._write, exit=True)

    def _write(self, **event: Any) -> None:
        self._file.write(json.dumps(event) + "\n")

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        again = [item for item in items if item.nodeid in self._done]
        if again:
            items[:] = [item for item in items if item.nodeid not in self._done]
            config.hook.pytest_deselected(items=again)

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        self._session = session

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._write(start=nodeid)
        self._worst = ("passed", "")
        self._began = time.monotonic()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        outcome = self._outcome(report)
        if self.RANKS.index(outcome) > self.RANKS.index(self._worst[0]):
            self._worst = (outcome, last_line(report))

    def _outcome(self, report: pytest.TestReport) -> str:
        if hasattr(report, "wasxfail"):
            return "xpassed" if report.passed else "xfailed"
        if report.failed and HANG in str(report.longrepr):
            return "hang"
        if report.failed and report.when != "call":
            return "error"
        return report.outcome

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        outcome, line = self._worst
        if self.RANKS.index(outcome) >= self.RANKS.index("error"):
            forget_traceback()
        self._hangs += outcome == "hang"
        if self._hangs >= MAX_HANGS and self._session is not None:
            self._session.shouldstop = f"{self._hangs} tests hung"
        self._write(id=nodeid, outcome=outcome, line=line, seconds=round(time.monotonic() - self._began, 3))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        # A module skipped as a whole is in neither run; one that cannot be imported must be seen.
        if report.failed:
            self._write(id=report.nodeid, outcome="error", line=last_line(report), seconds=0.0)

    # First, that is before the suite's own, so that what goes wrong at the end is seen to be at the end.
    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        self._write(end=pin_share())


def forget_traceback() -> None:
    """Collects what a failed test left behind, which its traceback keeps.

    A connection it did not come to close would else warn, and so fail, in any later test.
    """
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        vars(sys).pop(name, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def last_line(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The line of the report that names the error."""
    if isinstance(report.longrepr, tuple):  # skipped: path, line, reason
        return report.longrepr[2]
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else str(report.longrepr or "").rstrip().rpartition("\n")[2]
    # Assertions put what differs behind the first line; one line is for the table, the log has them all.
    return str(text.strip().partition("\n")[0][:300])


HANG = "hang: no end after"


class Timeouts:
    """Fails a phase of a test (set-up, call, tear-down) that takes longer than TIMEOUT.

    A coroutine is cancelled by its loop: an exception from a signal handler would leave anyio's runner
    waiting for the test, and the next test for the runner. All else is interrupted by SIGALRM.
    """

    @contextmanager
    def _limit(self, item: pytest.Item) -> Iterator[None]:
        def interrupt(_signum: int, _frame: FrameType | None) -> None:
            pytest.fail(f"{HANG} {TIMEOUT:g} s")

        before = signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, TIMEOUT)
        faulthandler.dump_traceback_later(HARD_TIMEOUT, exit=True, file=_STDERR)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            faulthandler.cancel_dump_traceback_later()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        with self._limit(item):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        with self._limit(item):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Iterator[None]:
        with self._limit(item):
            return (yield)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            function = getattr(item, "obj", None)
            if inspect.iscoroutinefunction(function):
                item.obj = _limited(function)  # type: ignore[attr-defined]

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        # Threads that were left behind may keep the interpreter from ending.
        faulthandler.dump_traceback_later(HARD_TIMEOUT, exit=True, file=_STDERR)


def _limited(function: Any) -> Any:
    @functools.wraps(function)
    async def limited(*args: Any, **kwargs: Any) -> Any:
        seconds = 0.9 * TIMEOUT  # a little earlier than the signal
        try:
            async with asyncio.timeout(seconds) as scope:
                return await function(*args, **kwargs)
        except BaseException:  # whatever the cancellation came out as
            if scope.expired():
                pytest.fail(f"{HANG} {seconds:g} s")
            raise

    return limited
