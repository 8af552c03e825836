"""What it costs to learn the facts of a statement: CPU time per text, seen and not seen before.

    python -m benchmarks.analysis [--json]

The budgets are 20 µs by primary key, 50 µs for a join of 200 bytes, 0.3 µs for a text seen before. They were
measured where parsing alone costs 6 and 23 µs, so the ratio to that is printed too: it does not depend on the
machine. Inlined literals (Django, psycopg2) make each text a new one: "unseen" is then the price of every
statement.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial

from heliosproxy.sql.analyse import analyse
from heliosproxy.sql.memo import Memo
from heliosproxy.sql.parser import parse

PK = "SELECT * FROM users WHERE id = $1"
JOIN = (
    "SELECT o.id, o.total, c.name, c.email FROM orders o JOIN customers c ON c.id = o.customer_id "
    "WHERE o.status = $1 AND o.created_at > $2 AND c.region IN ('eu', 'us') "
    "ORDER BY o.created_at DESC LIMIT 20"
)
DJANGO = (
    'SELECT "auth_user"."id", "auth_user"."password", "auth_user"."last_login", "auth_user"."is_superuser", '
    '"auth_user"."username", "auth_user"."first_name", "auth_user"."last_name", "auth_user"."email", '
    '"auth_user"."is_staff", "auth_user"."is_active", "auth_user"."date_joined" FROM "auth_user" '
    'WHERE "auth_user"."id" = 42 LIMIT 21'
)
PGBENCH = "UPDATE pgbench_accounts SET abalance = abalance + -4381 WHERE aid = 99173;"

_ROUNDS = 21


def _median(call: Callable[[], object], times: int) -> float:
    """Median over rounds of the CPU time of one *call*, in microseconds."""
    call()
    rounds = []
    for _ in range(_ROUNDS):
        start = time.process_time_ns()
        for _ in range(times):
            call()
        rounds.append((time.process_time_ns() - start) / times / 1000)
    return statistics.median(rounds)


def run() -> dict[str, float]:
    """Measure; return microseconds of CPU by name."""
    figures = {}
    for name, text in {"pk": PK, "join": JOIN, "django": DJANGO, "pgbench": PGBENCH}.items():
        figures[f"parse_{name}_us"] = _median(partial(parse, text), 1000)
        figures[f"unseen_{name}_us"] = _median(partial(analyse, text), 1000)
    memo = Memo()
    figures["seen_us"] = _median(lambda: memo.get(JOIN), 20_000)
    return {name: round(figure, 3) for name, figure in figures.items()}


def main() -> None:
    """Print a table, or with --json one object."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--json", action="store_true", help="print one JSON object")
    chosen = options.parse_args()
    figures = run()
    if chosen.json:
        print(json.dumps(figures))
        return
    for name in ("pk", "join", "django", "pgbench"):
        parsed, unseen = figures[f"parse_{name}_us"], figures[f"unseen_{name}_us"]
        print(f"unseen {name:8} {unseen:8.1f} µs   parse alone {parsed:6.1f} µs   x {unseen / parsed:.2f}")
    print(f"seen            {figures['seen_us']:8.2f} µs")


if __name__ == "__main__":
    main()
