"""A first program: connect, a hit, an invalidation. It starts a PostgreSQL of its own and leaves nothing behind.

pip install 'heliosproxy[embedded]' && python examples/first_program.py
"""

import heliosproxy
from heliosproxy.embedded import Cluster

USER = "SELECT name FROM users WHERE id = %s"

with Cluster(replicas=0) as cluster, heliosproxy.Proxy(helios_mode="transaction", helios_cache=True) as proxy:
    with proxy.connect(cluster.primary.dsn, autocommit=True) as conn:
        conn.execute("CREATE TABLE users (id int PRIMARY KEY, name text)")
        conn.execute("INSERT INTO users VALUES (42, 'Ada')")

        cursor = conn.cursor()
        print(cursor.execute(USER, (42,)).fetchone(), cursor.helios.outcome)  # ('Ada',) miss: asked
        print(cursor.execute(USER, (42,)).fetchone(), cursor.helios.outcome)  # ('Ada',) hit: remembered

        with proxy.connect(cluster.primary.dsn) as other:  # somebody else writes, and commits
            other.execute("UPDATE users SET name = 'Grace' WHERE id = 42")

        print(cursor.execute(USER, (42,)).fetchone(), cursor.helios.outcome)  # ('Grace',) miss: not stale
    print("hits:", proxy.stats()["cache"]["hits"])
