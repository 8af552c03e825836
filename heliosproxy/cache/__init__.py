"""Answers kept in memory, invalidated by writes: what a Proxy with ``cache.enabled`` puts into the path."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..config import Config
    from .service import CacheService
    from .stage import CacheStage


def build(config: Config) -> tuple[CacheService, CacheStage]:
    """The cache that *config* asks for, and its stage."""
    from .service import CacheService
    from .stage import CacheStage

    service = CacheService(config)
    return service, CacheStage(service)
