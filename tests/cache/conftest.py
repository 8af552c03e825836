"""What the tests of truth share: the hazards' database, and a Proxy per face and mode."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import psycopg
import pytest

import heliosproxy
from heliosproxy.cache.versions import Versions
from heliosproxy.embedded import Cluster
from tests.cache.hazards.schema import ROLES, ROWS, SCHEMA
from tests.cache.hazards.world import Asyncio, Blocking, ExtendedProtocol, SimpleProtocol, World, spy

FACES: dict[str, Any] = {face.name: face for face in (Blocking, Asyncio, SimpleProtocol, ExtendedProtocol)}


class Apart(Versions):
    """Versions in which no two relations meet in a slot: a script that expects a hit relies on that."""

    _numbers: ClassVar[dict[tuple[object, int], int]] = {}

    def slot(self, database: object, relation: int) -> int:
        number = self._numbers.setdefault((database, relation), len(self._numbers))
        return 1 + number % (self.rows.slots - 1)


@pytest.fixture(scope="module")
def apart() -> Iterator[None]:
    """For a Proxy of one process: see `Apart`."""
    with pytest.MonkeyPatch.context() as patch:
        Apart._numbers.clear()
        patch.setattr("heliosproxy.cache.service.Versions", Apart)
        yield


@pytest.fixture(scope="session")
def hazards_dsn(cluster: Cluster) -> Iterator[str]:
    """A database with the hazards' schema."""
    for role in ROLES:
        cluster.primary.sql(f"CREATE ROLE {role}")
    cluster.primary.sql("CREATE DATABASE hazards")
    dsn = cluster.primary.dsn.removesuffix("postgres") + "hazards"
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(SCHEMA)
    yield dsn
    cluster.primary.sql("DROP DATABASE hazards WITH (FORCE)")
    for role in ROLES:
        cluster.primary.sql(f"DROP ROLE {role}")


@pytest.fixture(scope="module", params=["session", "transaction"])
def proxy(request: pytest.FixtureRequest, hazards_dsn: str, apart: None) -> Iterator[heliosproxy.Proxy]:
    """A Proxy with the cache alone."""
    config = {"node": [{"name": "primary", "dsn": hazards_dsn}]}
    with heliosproxy.Proxy(config, stages=(spy,), helios_mode=request.param, helios_cache=True) as made:
        yield made


@pytest.fixture(scope="module", params=["sync", "async"])
def face(request: pytest.FixtureRequest) -> Iterator[Any]:
    """One of the faces of the DB-API; a test that looks at nothing else may ask for any by its name."""
    made = FACES[request.param]()
    yield made
    made.close()


@pytest.fixture
def world(
    hazards_dsn: str, proxy: heliosproxy.Proxy, face: Any, request: pytest.FixtureRequest
) -> Iterator[World]:
    """The stage, with the rows it began with and an empty store."""
    with psycopg.connect(hazards_dsn, autocommit=True) as outside:
        outside.execute(ROWS)
        if outside.execute(
            "SELECT count(*) FROM pg_class WHERE relnamespace = 's'::regnamespace"
        ).fetchone() != (0,):
            outside.execute("DROP SCHEMA s CASCADE; CREATE SCHEMA s; GRANT USAGE ON SCHEMA s TO PUBLIC")
            proxy.cache.flush()
    proxy.cache.store.clear()
    made = World(hazards_dsn, proxy, face)
    yield made
    made.close()
