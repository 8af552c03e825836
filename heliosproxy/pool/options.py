"""How one pool behaves."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigError


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """Names and meanings are psycopg_pool's; `min_size` and `max_size` have other defaults.

    Attributes:
        min_size: server connections kept although idle; default 0. They are opened by use, or by `Pool.warm`.
            Another pool that waits at the common cap may still take their place.
        max_size: server connections of this pool; None (default) = only the common cap limits it.
        timeout: seconds to wait in the queue, default 30; 0 = do not wait. How long connecting may take is
            libpq's ``connect_timeout``, not this.
        max_waiting: how many may wait at a time; 0 (default) = unlimited.
        max_idle: seconds an idle connection is kept; default 600; ``inf`` = for ever.
        max_lifetime: seconds after which a connection is replaced, less a random part of up to 10 % so that
            not all go at once; default 3600; ``inf`` = never.
        check: whether `Server.alive` is asked before each lease; default True.

    Raises:
        ConfigError: a value makes no sense, alone or beside another one.
    """

    min_size: int = 0
    max_size: int | None = None
    timeout: float = 30.0
    max_waiting: int = 0
    max_idle: float = 600.0
    max_lifetime: float = 3600.0
    check: bool = True

    def __post_init__(self) -> None:
        for name in ("min_size", "timeout", "max_waiting"):
            if getattr(self, name) < 0:
                raise ConfigError(f"pool.{name} cannot be negative", key=f"pool.{name}")
        for name in ("max_idle", "max_lifetime"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"pool.{name} must be more than 0 seconds", key=f"pool.{name}")
        if self.max_size is not None and self.max_size < max(self.min_size, 1):
            raise ConfigError(
                f"pool.max_size is {self.max_size}; it must be at least 1 and at least pool.min_size",
                key="pool.max_size",
            )
