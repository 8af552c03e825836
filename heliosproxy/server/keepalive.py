"""Whether an idle client is still there: the system asks it, by TCP."""

from __future__ import annotations

import math
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..config.features import Server

_IDLE = ("TCP_KEEPIDLE", "TCP_KEEPALIVE")  # Linux's name, and macOS's
_INTERVAL = ("TCP_KEEPINTVL",)
_COUNT = ("TCP_KEEPCNT",)


def keep_alive(sock: Any, settings: Server) -> None:
    """Have the system look after *sock*, a client's on TCP, as *settings* say; what the platform lacks is left out."""
    if not settings.tcp_keepalive:
        return
    with suppress(OSError):  # it has gone meanwhile
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for names, number in (
            (_IDLE, settings.tcp_keepalive_idle),
            (_INTERVAL, settings.tcp_keepalive_interval),
            (_COUNT, settings.tcp_keepalive_count),
        ):
            option = next((getattr(socket, name) for name in names if hasattr(socket, name)), None)
            if option is not None:
                sock.setsockopt(socket.IPPROTO_TCP, option, math.ceil(number))
