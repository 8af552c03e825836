"""``python -m heliosproxy``: the command line."""

from __future__ import annotations

from heliosproxy.cli import app

if __name__ == "__main__":
    app()
