"""Long proofs of the wire server, at full scale, beside their bars.

    python -m benchmarks.endurance [--part clients|memory|gigabyte|fuzz|cancels] [--seconds N] [--json] [--quick]

``clients``: 5,000 clients over TCP do transactions on 50 server connections. ``memory``: what one more idle client
costs, over TCP and over TLS. ``gigabyte``: 1 GB through SELECT and COPY, both ways. ``fuzz``: any bytes, and clients of
which a model says what they must be told. ``cancels``: 1,000 cancel requests at random moments under load.

Without --part: all of them, in turns. --seconds is how long ``clients`` (90) and ``fuzz`` (60) go on; the others take
what they need. The server runs in processes of its own, the clients in others. Exit status 1: a bar was missed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from typing import Any

from ..common import server, show
from .served import compiled

PARTS = ("clients", "memory", "gigabyte", "cancels", "fuzz")


def run(dsn: str | None, parts: list[str], seconds: float | None, quick: bool) -> dict[str, Any]:
    """Measure *parts*; a section for each, and the bars."""
    found: dict[str, Any] = {}
    bars: dict[str, Any] = {}
    build = "compiled" if compiled() else "plain"
    with server(dsn) as target:
        for name in parts:
            module = importlib.import_module(f"benchmarks.endurance.{name}")
            rows, more = module.part(target, seconds, quick)
            found[f"{name}, {build}"] = rows
            bars.update(more)
    return {**found, "bars": bars}


def main() -> int:
    """Print a table per part, or with --json one object; 1 when a bar was missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", action="append", choices=PARTS, help="may be repeated; default: all")
    parser.add_argument("--seconds", type=float, help="of clients and fuzz")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument("--dsn", help="a PostgreSQL server; default: an embedded one")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes: does it work? The figures mean little"
    )
    options = parser.parse_args()
    found = run(options.dsn, options.part or list(PARTS), options.seconds, options.quick)
    if options.json:
        print(json.dumps(found))
    else:
        show(found)
    return int(any(figure["value"] > figure["at_most"] for figure in found["bars"].values()))


if __name__ == "__main__":
    sys.exit(main())
