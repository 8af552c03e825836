"""``heliosproxy demo``: a real cluster, a shop, and the same load with and without heliosproxy.

Needs ``pip install 'heliosproxy[embedded]'``. Leaves nothing behind: no process, no file.
"""

from __future__ import annotations

import sys

STALE, FAILED, INTERRUPTED = 1, 2, 130


def run(*, seconds: float = 8.0, json: bool = False) -> int:
    """Run the demonstration on standard output.

    Args:
        seconds: how long it measures, in all; half of it is for each side.
        json: print one JSON object and nothing else.

    Returns:
        The exit status: 0; 1 when a stale read was found; 2 when it could not run, which is then said on
        standard error; 130 after Ctrl-C.
    """
    # Here, because importing loads nothing that is not used.
    import psycopg

    from heliosproxy.demo.stage import perform
    from heliosproxy.errors import HeliosError

    try:
        return STALE if perform(seconds, json) else 0
    except KeyboardInterrupt:
        print("interrupted: the servers are stopped, their files removed", file=sys.stderr)
        return INTERRUPTED
    except (HeliosError, psycopg.Error) as error:
        print(f"heliosproxy demo: {error}", file=sys.stderr)
        return FAILED
