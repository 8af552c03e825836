"""A pytest plugin for SQLAlchemy's own suite: how to prepare a database for our dialects.

Loaded with ``-p sqlalchemy_plugin``, as psycopg_plugin is. What the suite does to a database before its tests stands
in SQLAlchemy's package of the dialect; of a dialect in another package it looks there.
"""

from __future__ import annotations

import importlib
from typing import Any

from heliosproxy.sqlalchemy import HeliosDialect, HeliosDialectAsync


def _provision(cls: Any) -> None:
    importlib.import_module("sqlalchemy.dialects.postgresql.provision")


for dialect in (HeliosDialect, HeliosDialectAsync):
    dialect.load_provisioning = classmethod(_provision)  # type: ignore[method-assign]  # for this run
