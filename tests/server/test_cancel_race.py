"""A cancel request and the answer in the same moment: the request hits nobody else."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from heliosproxy.embedded.home import wait_until
from heliosproxy.server.protocol import frontend
from tests.server.conftest import Served
from tests.server.wire import Wire, errors


def test_an_answer_behind_a_cancel_request_does_not_hand_the_connection_on(
    served: Callable[..., Served],
) -> None:
    server = served("transaction", helios_server_connections=1)
    one, next_one = Wire(server.url), Wire(server.url)
    one.value("SELECT 1")
    service, loop = server.serving._service, server.serving._loop
    (home,) = service.homes.values()
    (upstream,) = home.upstreams
    key = next(body for kind, body in one.greeting if kind == b"K")

    def on_loop(call: Callable[[], Any]) -> Any:
        done, results = threading.Event(), []

        def run() -> None:
            try:
                results.append(call())
            finally:
                done.set()

        loop.call_soon_threadsafe(run)
        assert done.wait(10)
        return results[0]

    on_loop(upstream.transport.pause_reading)
    one.send(frontend.query(b"SELECT 2"))
    next_one.send(frontend.query(b"SELECT pg_sleep(0.5)"))
    wait_until(lambda: on_loop(lambda: len(home.pool.stock.queue)) > 0, 10, "somebody waits")
    server.direct().execute("SELECT pg_sleep(0.3)")  # by then the answer has come

    def both() -> None:
        assert service.cancelling.here(int.from_bytes(key[:4], "big"), key[4:].hex())
        upstream.data_received(os.read(upstream.transport.get_extra_info("socket").fileno(), 65536))
        upstream.transport.resume_reading()

    on_loop(both)
    assert not errors(one.ready())
    assert not errors(next_one.ready())
    one.close()
    next_one.close()
