"""Servers shared by all tests. A test that kills or reconfigures a server makes its own ``Cluster``."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator

import pytest

from heliosproxy.embedded import Cluster


def pytest_configure() -> None:
    """A shell that starts the tests in the background has them ignore Ctrl-C, which some send to themselves."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A primary without replicas, shared by the whole run."""
    with Cluster(replicas=0) as running:
        yield running


@pytest.fixture(scope="session")
def replicated_cluster() -> Iterator[Cluster]:
    """A primary with one asynchronous replica, shared by the whole run."""
    with Cluster(replicas=1) as running:
        yield running


@pytest.fixture(scope="module")
def dsn(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """The DSN of a fresh database of ``cluster``, named after the test module and dropped behind it."""
    # PostgreSQL cuts names at 63 bytes: the end is the telling part.
    name = re.sub(r"\W", "_", request.module.__name__)[-63:].lower()
    cluster.primary.sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    cluster.primary.sql(f'CREATE DATABASE "{name}"')
    yield cluster.primary.dsn.removesuffix("postgres") + name
    cluster.primary.sql(f'DROP DATABASE "{name}" WITH (FORCE)')
