"""A statement that libpq refuses to queue, behind what was queued before it."""

from __future__ import annotations

import psycopg
import pytest

import heliosproxy


@pytest.mark.parametrize("autocommit", [True, False])
def test_what_was_queued_before_a_refused_statement_is_answered_and_the_connection_goes_on(
    dsn: str, autocommit: bool
) -> None:
    with heliosproxy.Proxy(helios_mode="transaction", helios_server_connections=1) as proxy:
        with proxy.connect(dsn, autocommit=autocommit) as one, proxy.connect(dsn, autocommit=True) as two:
            one.execute("SET work_mem TO '5MB'")
            one.commit()
            two.execute("SET work_mem TO '6MB'")  # so that the next flight restores: it has two Syncs
            too_many = [1] * 65_536
            with pytest.raises(psycopg.Error):
                one.execute("SELECT " + ",".join(["%s"] * len(too_many)), too_many)
            one.rollback()
            assert one.execute("SHOW work_mem").fetchone() == ("5MB",)
            one.rollback()
            assert two.execute("SHOW work_mem").fetchone() == ("6MB",)
        stats = next(iter(proxy.stats()["pools"].values()))
        assert stats["pool_size"] == stats["pool_available"] == 1
