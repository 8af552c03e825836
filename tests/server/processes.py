"""``heliosproxy serve`` as processes of their own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

Process = subprocess.Popen[str]
Start = Callable[..., Process]


def connect(folder: Path, dsn: str, **keywords: Any) -> psycopg.Connection[Any]:
    """A client of the one that listens in *folder*."""
    given = psycopg.conninfo.conninfo_to_dict(dsn)
    names = {"user": given["user"], "dbname": given["dbname"], **keywords}
    return psycopg.connect(host=str(folder), port=5432, **names)


def ready(process: Process) -> list[str]:
    """Wait until clients can connect; returns the addresses."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("listening on ")
    return line.strip().removeprefix("listening on ").split(", ")
