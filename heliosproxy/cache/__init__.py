"""Answers kept in memory, invalidated by writes: what a Proxy with ``cache.enabled`` puts into the path."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..config import Config
    from .rows import Rows
    from .service import CacheService
    from .stage import CacheStage


def build(config: Config, memory: Rows | None = None) -> tuple[CacheService, CacheStage]:
    """The cache that *config* asks for, and its stage.

    Args:
        memory: the counters of another cache, whose writes invalidate this one's answers, and the other way round.
    """
    from .service import CacheService
    from .stage import CacheStage

    service = CacheService(config, memory)
    return service, CacheStage(service)
