"""The SQLAlchemy face: a dialect, ``postgresql+heliosproxy://``, and an engine plugin, ``plugins=["heliosproxy"]``.

Both are found by entry points; nothing has to be imported. `proxy_of` gives the `heliosproxy.Proxy` of an engine.
"""

from __future__ import annotations

from .dialect import HeliosDialect, HeliosDialectAsync, proxy_of
from .plugin import HeliosPlugin

__all__ = ["HeliosDialect", "HeliosDialectAsync", "HeliosPlugin", "proxy_of"]
