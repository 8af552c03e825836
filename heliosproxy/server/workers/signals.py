"""Signals to the supervisor: they wake it, and wait until it acts on them."""

from __future__ import annotations

import os
import selectors
import signal
from typing import Any

from .child import SIGNALS


class Signals:
    """Those of one process, from `catch` on.

    Attributes:
        came: which nobody has acted on yet, in the order of coming.
    """

    def __init__(self) -> None:
        self.came: list[int] = []
        self._wake = self._alarm = -1
        self._before: dict[int, Any] = {}

    def catch(self, selector: selectors.BaseSelector) -> None:
        """Have them wake *selector*, with no data; so does the end of a child."""
        self._wake, self._alarm = os.pipe()
        for end in (self._wake, self._alarm):
            os.set_blocking(end, False)
        self._before = {which: signal.signal(which, self._caught) for which in SIGNALS}
        self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._alarm, warn_on_full_buffer=False)
        selector.register(self._wake, selectors.EVENT_READ, None)

    def _caught(self, which: int, _: Any) -> None:
        self.came.append(which)

    def awake(self) -> None:
        """The selector has been woken, and may sleep again."""
        os.read(self._wake, 4096)

    def restore(self) -> None:
        """Let them do what they did before `catch`."""
        signal.set_wakeup_fd(-1)
        for which, handler in self._before.items():
            signal.signal(which, handler)

    def close(self) -> None:
        """Nothing is to be woken any more."""
        os.close(self._wake)
        os.close(self._alarm)
