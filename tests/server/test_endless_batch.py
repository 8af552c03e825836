"""A batch without its Sync may go on for ever: it is answered as it goes, and nothing of it piles up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from heliosproxy.server.client import sending
from heliosproxy.server.protocol import frontend
from tests.server.conftest import Served
from tests.server.wire import Wire, bind, errors, execute

SYNC = frontend.SYNC
CHUNKS, IN_A_CHUNK, KEPT_BACK = 60, 100, 1000


@pytest.fixture(params=[False, True], ids=["", "cached"])
def server(request: pytest.FixtureRequest, served: Callable[..., Served]) -> Iterator[Served]:
    made = served(helios_server_connections=1, helios_cache=request.param)
    made.direct().execute("""
        DROP TABLE IF EXISTS endless;
        CREATE TABLE endless (n int);
        CREATE OR REPLACE FUNCTION unseen() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
    """)
    return made


class Pouring:
    """Sends executions of *text* without an end, and reads what is answered."""

    def __init__(self, server: Served, client: Wire, text: bytes) -> None:
        conversation: Any = next(iter(server.serving._service.links.values())).conversation
        self.most = self.executed = 0
        self.errors: list[str] = []
        client.send(frontend.parse_raw(b"s", text, b"\0\0"))
        for sent in range(0, CHUNKS * IN_A_CHUNK, IN_A_CHUNK):
            client.send((bind(b"s") + execute()) * IN_A_CHUNK)
            # PostgreSQL keeps 8 kB of answers back.
            while self.executed < sent - KEPT_BACK and not self.errors:
                self._take(client.message())
            plan = conversation._plan
            self.most = max(self.most, 0 if plan is None else len(plan.calls))
        client.send(SYNC)
        for message in client.ready():
            self._take(message)

    def _take(self, message: tuple[bytes, bytes] | None) -> None:
        assert message is not None
        self.executed += message[0] == b"C"
        self.errors += errors([message])


@pytest.mark.parametrize(
    "text", [b"INSERT INTO endless VALUES (1)", b"SELECT unseen()", b"SELECT count(*) FROM endless"]
)
def test_what_leaves_the_session_alone_is_forgotten_as_it_is_answered(
    server: Served, text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "CROWD", 500)
    with Wire(server.url) as client:
        before = server.serving._service.control.pools()[0]["queries"]
        pouring = Pouring(server, client, text)
        assert not pouring.errors
        assert pouring.executed == CHUNKS * IN_A_CHUNK
        assert pouring.most <= 500 + KEPT_BACK + 2 * IN_A_CHUNK
        counted = server.serving._service.control.pools()[0]["queries"] - before
        assert (
            0 <= counted - pouring.executed <= 15
        )  # what is kept to stand for a whole part, counts once more
        assert client.value("SELECT count(*) FROM endless") == (
            str(pouring.executed) if b"INSERT" in text else "0"
        )


def test_an_error_takes_all_of_it_back(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "CROWD", 500)
    with Wire(server.url) as client:
        text = b"INSERT INTO endless SELECT 1 / (3000 - count(*)) FROM endless"
        pouring = Pouring(server, client, text)
        assert pouring.errors == ["22012"]
        assert pouring.executed == 3000
        assert client.value("SELECT count(*) FROM endless") == "0"


def test_what_the_session_must_remember_has_an_end(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "CROWD", 500)
    monkeypatch.setattr(sending, "REMEMBERED", 2000)
    with Wire(server.url) as client:
        pouring = Pouring(server, client, b"SET work_mem TO '7MB'")
        assert pouring.errors == ["54000"]
        assert pouring.executed >= 2000
        assert client.value("SHOW work_mem") == "4MB"
        client.send(
            *[frontend.parse_raw(b"t", b"SET work_mem TO '7MB'", b"\0\0"), bind(b"t"), execute()], SYNC
        )
        assert not errors(client.ready())
        assert client.value("SHOW work_mem") == "7MB"
