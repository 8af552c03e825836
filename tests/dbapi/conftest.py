"""Connections of either face, in each mode; every Proxy must be empty again when its test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import heliosproxy
from tests.dbapi import faces


class Nothing:
    """A stage that does nothing: with it, session mode takes the path."""

    def before(self, session: Any, call: Any) -> None:
        pass


MODES: dict[str, dict[str, Any]] = {
    "session": {"helios_mode": "session"},
    "session_on_path": {"helios_mode": "session", "stages": (Nothing(),)},
    "transaction": {"helios_mode": "transaction"},
    "statement": {"helios_mode": "statement"},
}


@pytest.fixture(params=["sync", "async"])
def face(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The blocking face, then the asyncio face made to block."""
    made = faces.Face() if request.param == "sync" else faces.AsyncFace()
    yield made
    made.close()


@pytest.fixture
def make_proxy() -> Iterator[Callable[..., heliosproxy.Proxy]]:
    """``make_proxy("transaction", helios_server_connections=1)``; closed, and found empty, behind the test."""
    proxies: list[heliosproxy.Proxy] = []

    def make(mode: str = "transaction", **options: Any) -> heliosproxy.Proxy:
        proxies.append(heliosproxy.Proxy(**{**MODES[mode], **options}))
        return proxies[-1]

    yield make
    for proxy in proxies:
        stats = proxy.stats()
        proxy.close()
        leased = [
            (name, pool["pool_size"] - pool["pool_available"])
            for name, pool in stats["pools"].items()
            if pool["pool_size"] != pool["pool_available"]
        ]
        assert not leased, f"server connections still leased: {leased}"
        assert stats["connections"] == 0, "logical connections still open"


class Room:
    """Logical connections of one Proxy, closed behind the test."""

    def __init__(self, face: Any, proxy: heliosproxy.Proxy, dsn: str) -> None:
        self.face = face
        self.proxy = proxy
        self.dsn = dsn
        self.opened: list[Any] = []

    def connect(self, dsn: str | None = None, **keywords: Any) -> Any:
        self.opened.append(self.face.open(self.proxy, self.dsn if dsn is None else dsn, **keywords))
        return self.opened[-1]

    def auto(self, **keywords: Any) -> Any:
        """A connection in autocommit."""
        return self.connect(autocommit=True, **keywords)

    @property
    def pool(self) -> dict[str, Any]:
        (pool,) = self.proxy.stats()["pools"].values()
        return pool  # type: ignore[no-any-return]

    @property
    def leased(self) -> int:
        """Server connections leased now."""
        return int(self.pool["pool_size"] - self.pool["pool_available"])

    def close(self) -> None:
        for connection in self.opened:
            connection.close()


@pytest.fixture
def room(face: Any, make_proxy: Any, dsn: str) -> Iterator[Callable[..., Room]]:
    """``room("transaction")``: a Proxy of its own and connections to it."""
    rooms: list[Room] = []

    def make(mode: str = "transaction", **options: Any) -> Room:
        rooms.append(Room(face, make_proxy(mode, **options), dsn))
        return rooms[-1]

    yield make
    for made in rooms:
        made.close()


@pytest.fixture
def one_server(room: Callable[..., Room]) -> Room:
    """Transaction mode with a single server connection: who comes next gets the one before's."""
    return room("transaction", helios_server_connections=1, helios_pool_timeout=0)
