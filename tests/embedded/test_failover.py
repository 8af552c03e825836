"""Replication: synchronous or not, promotion, rejoining."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from heliosproxy.embedded import Cluster, EmbeddedError, Node
from heliosproxy.embedded.home import wait_until


@pytest.fixture
def pair() -> Iterator[Cluster]:
    """A primary and a replica with a table ``t``, for one test to break."""
    with Cluster(replicas=1) as cluster:
        cluster.primary.sql("CREATE TABLE t (a int)")
        yield cluster


def rows(node: Node) -> list[int]:
    return [row[0] for row in node.sql("SELECT a FROM t ORDER BY a")]


def test_replicas_replay_what_the_primary_wrote(replicated_cluster: Cluster) -> None:
    (replica,) = replicated_cluster.replicas
    replicated_cluster.primary.sql("CREATE TABLE t AS SELECT generate_series(1, 3) AS a")
    replicated_cluster.wait_caught_up()
    assert rows(replica) == [1, 2, 3]
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        replica.sql("INSERT INTO t VALUES (4)")
    replicated_cluster.primary.sql("DROP TABLE t")


def test_promotion_makes_a_replica_the_primary(pair: Cluster) -> None:
    old, new = pair.nodes
    pair.wait_caught_up()
    old.kill()
    new.promote()
    assert pair.primary is new
    assert pair.replicas == (old,)
    new.sql("INSERT INTO t VALUES (1)")
    assert rows(new) == [1]
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        new.promote()


@pytest.mark.parametrize("end", ["kill", "stop", "freeze"])
def test_an_old_primary_rejoins_without_what_was_never_replicated(pair: Cluster, end: str) -> None:
    old, new = pair.nodes
    pair.wait_caught_up()
    new.kill()
    old.sql("INSERT INTO t VALUES (1)")
    match end:
        case "kill":
            old.kill()
        case "stop":
            old.stop()
        case "freeze":
            old.freeze()
    new.start()
    new.promote()
    new.sql("INSERT INTO t VALUES (2)")
    old.rejoin(new)
    pair.wait_caught_up()
    assert old.in_recovery()
    assert rows(old) == rows(new) == [2]
    # And back again.
    new.kill()
    old.promote()
    new.rejoin(old)
    pair.wait_caught_up()
    assert pair.primary is old
    assert rows(new) == [2]


def test_a_killed_standby_rejoins() -> None:
    with Cluster(replicas=2) as cluster:
        old, new, third = cluster.nodes
        old.sql("CREATE TABLE t AS SELECT 1 AS a")
        cluster.wait_caught_up()
        old.kill()
        third.kill()
        new.promote()
        for node in (old, third):
            node.rejoin(new)
        new.sql("INSERT INTO t VALUES (2)")
        cluster.wait_caught_up()
        assert rows(old) == rows(third) == [1, 2]
        assert cluster.replicas == (old, third)


def test_a_synchronous_commit_survives_the_death_of_the_primary() -> None:
    with Cluster(replicas=1, synchronous=True) as cluster:
        old, new = cluster.nodes
        old.sql("CREATE TABLE t (a int)")
        old.sql("INSERT INTO t VALUES (1)")
        old.kill()
        new.promote()
        assert rows(new) == [1]
        new.sql("INSERT INTO t VALUES (2)")  # asynchronous: nobody is there to wait for


def test_synchronous_off_lets_a_waiting_commit_go(pair: Cluster) -> None:
    primary, replica = pair.nodes
    pair.synchronous(True)
    replica.freeze()
    with psycopg.connect(primary.dsn, autocommit=True) as connection:
        connection.pgconn.send_query(b"INSERT INTO t VALUES (1)")
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        wait_until(lambda: primary.sql(waiting) == [(1,)], 10, "the commit waits for the replica")
        pair.synchronous(False)
        result = connection.pgconn.get_result()
        assert result is not None
        assert result.command_status == b"INSERT 0 1"
        assert connection.pgconn.get_result() is None
        connection.execute("INSERT INTO t VALUES (2)")
    replica.thaw()
    pair.synchronous(True)
    pair.wait_caught_up()
    assert rows(replica) == [1, 2]


def test_synchronous_is_an_error_while_a_living_replica_does_not_follow(pair: Cluster) -> None:
    old, new = pair.nodes
    old.kill()
    new.promote()
    old.start()
    with pytest.raises(EmbeddedError, match="synchronous is True"):
        pair.synchronous(True, timeout=0.3)
    pair.synchronous(False)


def test_wait_caught_up_gives_up(pair: Cluster) -> None:
    pair.replicas[0].sql("SELECT pg_wal_replay_pause()")
    pair.primary.sql("INSERT INTO t VALUES (1)")
    with pytest.raises(EmbeddedError, match="have replayed"):
        pair.wait_caught_up(timeout=0.2)
    pair.replicas[0].sql("SELECT pg_wal_replay_resume()")
    pair.wait_caught_up()
    assert rows(pair.replicas[0]) == [1]
