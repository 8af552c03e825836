"""The DB-API module that the blocking dialect uses."""

from __future__ import annotations

from typing import Any

import psycopg

from ..dbapi import Connection
from ..proxy import Proxy


class Driver:
    """psycopg, whose exceptions, types and adapters are those of our connections; but `connect` is a Proxy's."""

    def __getattr__(self, name: str) -> Any:
        return getattr(psycopg, name)

    @staticmethod
    def connect(conninfo: str, *, helios_proxy: Proxy, **keywords: Any) -> Connection[Any]:
        """A logical connection of *helios_proxy*; see `Proxy.connect`."""
        return helios_proxy.connect(conninfo, **keywords)
