"""Statements of ordinary clients go the short way, whatever their drivers bring along or set first."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from heliosproxy.server.client import express
from tests.server.conftest import Served

pytestmark = pytest.mark.skipif(
    not str(express.__file__).endswith(".py"), reason="compiled methods cannot be spied upon"
)


@pytest.fixture
def landed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The answers that came back the short way."""
    found: list[bytes] = []
    land = express.Passage.land

    def spied(passage: express.Passage, server: object, data: bytes) -> None:
        found.append(data)
        land(passage, server, data)  # type: ignore[arg-type]  # an Upstream

    monkeypatch.setattr(express.Passage, "land", spied)
    return found


@pytest.mark.parametrize("cursor", [psycopg.Cursor, psycopg.ClientCursor])
@pytest.mark.parametrize("setting", ["", "SET work_mem TO '5MB'"])
def test_clients_with_equal_settings_share_a_server_connection_at_no_cost(
    served: Callable[..., Served], landed: list[bytes], setting: str, cursor: type[psycopg.Cursor]
) -> None:
    server = served("transaction", helios_server_connections=1)
    clients = [
        server.connect(application_name="shop", options="-c jit=off", cursor_factory=cursor) for _ in range(3)
    ]
    for client in clients:
        if setting:
            client.execute(setting.encode())
        client.execute("SELECT %s::int", (0,))  # learns what is to be known of it
    landed.clear()
    for number in range(1, 5):
        for client in clients:
            assert client.execute("SELECT %s::int", (number,)).fetchone() == (number,)
    assert len(landed) == 12
