"""Server connections, shared: `Pools` (all under one cap), `Pool` (one key), `Server` (one of them)."""

from .cap import Pools
from .key import PoolKey
from .options import PoolOptions
from .pool import Pool
from .server import Server

__all__ = ["Pool", "PoolKey", "PoolOptions", "Pools", "Server"]
