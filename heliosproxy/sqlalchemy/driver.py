"""The DB-API module that the blocking dialect uses."""

from __future__ import annotations

from typing import Any

import psycopg

from ..dbapi import Connection
from ..errors import ConfigError
from ..proxy import Proxy


class Driver:
    """psycopg, whose exceptions, types and adapters are those of our connections; but `connect` is a Proxy's."""

    def __getattr__(self, name: str) -> Any:
        return getattr(psycopg, name)

    @staticmethod
    def connect(conninfo: str = "", *, helios_proxy: Proxy | None = None, **keywords: Any) -> Connection[Any]:
        """A logical connection of *helios_proxy*; see `Proxy.connect`.

        Raises:
            ConfigError: no Proxy is given: a do_connect event called it, which with psycopg may do so.
        """
        if helios_proxy is None:
            raise ConfigError("this module does not know the engine: call dialect.connect(*cargs, **cparams)")
        return helios_proxy.connect(conninfo, **keywords)
