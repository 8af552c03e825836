"""What a session may ask of the outside, and how the answer comes back.

A multi-step decision of the core is a generator. It yields one of these objects, a driver
(`heliosproxy.drivers`) performs it, blocking or with asyncio, and sends the outcome in, or throws what went
wrong. The core itself opens no socket, waits for nothing and reads no clock. Tests feed scripted outcomes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from .call import Call
    from .pool.pool import Pool


@dataclass(frozen=True, slots=True)
class Lease:
    """Wait for a server connection of *pool*; the outcome is the server connection, leased.

    Attributes:
        signature: the state wanted (equal signatures need no restore): a preference, not a condition.
        timeout: seconds; None takes the pool's own ``timeout``; 0 does not wait.
    """

    pool: Pool[Any]
    signature: object = None
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """Send *call* with its flight around it on the session's server connection.

    It can be yielded again for the same call: each attempt starts afresh from the recipe.
    """

    call: Call


@dataclass(frozen=True, slots=True)
class Control:
    """Call *work* with a control connection to the pool's database; the outcome is what *work* returns.

    *work* is blocking code over a plain psycopg connection in autocommit; under asyncio it runs in a thread.
    """

    pool: Pool[Any]
    work: Callable[[Any], Any]


class Landing(Protocol):
    """Something that another session will finish."""

    def wait(self, timeout: float) -> Any:
        """Block until it is finished, *timeout* seconds at most; returns its outcome, or None."""

    async def wait_async(self, timeout: float) -> Any:
        """As `wait`, for a task."""


@dataclass(frozen=True, slots=True)
class Follow:
    """Wait for what another session is doing, *timeout* seconds at most; the outcome is its outcome, or None."""

    landing: Landing
    timeout: float


Effect: TypeAlias = Lease | Run | Control | Follow
Steps: TypeAlias = Generator[Effect, Any, Any]
