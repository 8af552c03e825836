"""The configuration: `Config`, a typed model of heliosproxy.toml, and where its values come from.

config = Config.load("heliosproxy.toml")      # keywords > environment > file
config.pool.mode, config.cache.l1.size        # bytes and seconds, however they were written
refuse_unavailable(config)                    # what this version cannot do is refused by name
"""

from __future__ import annotations

from heliosproxy.config.masking import Dsn, mask_dsn
from heliosproxy.config.model import Config
from heliosproxy.config.options import OPTIONS, from_options
from heliosproxy.config.sections import Cache, Node, Pool, PoolMode
from heliosproxy.config.support import refuse_unavailable, unavailable

__all__ = [
    "OPTIONS",
    "Cache",
    "Config",
    "Dsn",
    "Node",
    "Pool",
    "PoolMode",
    "from_options",
    "mask_dsn",
    "refuse_unavailable",
    "unavailable",
]
