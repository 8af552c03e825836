"""Drive a session's steps with asyncio. `blocking.py` is generated from this file: tools/async_to_sync.py."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ..effects import Effect, Steps


async def drive(steps: Steps, perform: Callable[[Effect], Awaitable[Any]]) -> Any:
    """Perform what *steps* yields, one after the other; returns what it returns, raises what it raises.

    What goes wrong while performing, a cancellation included, is thrown into *steps*: it knows what to undo.
    """
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            effect = steps.send(value) if error is None else steps.throw(error)
        except StopIteration as stop:
            return stop.value
        value = error = None
        try:
            value = await perform(effect)
        except BaseException as ex:  # noqa: BLE001 - handed on, to the one who can settle it
            error = ex
