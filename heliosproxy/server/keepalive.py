"""Whether the other side is still there: the system asks it, by TCP."""

from __future__ import annotations

import math
import socket
from typing import TYPE_CHECKING, Any

from .login.targets import KeepAlive

if TYPE_CHECKING:
    from ..config.features import Server


def of_clients(settings: Server) -> KeepAlive:
    """The socket options of clients on TCP; whole seconds, as the system has them."""
    return KeepAlive(
        settings.tcp_keepalive,
        math.ceil(settings.tcp_keepalive_idle),
        math.ceil(settings.tcp_keepalive_interval),
        settings.tcp_keepalive_count,
    )


def keep_alive(sock: Any, wanted: KeepAlive) -> None:
    """Set the options of *sock*, on TCP; what the platform lacks is left out.

    Raises:
        OSError: it is no longer connected.
    """
    if not wanted.on:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = (
        ("TCP_KEEPIDLE", wanted.idle),
        ("TCP_KEEPALIVE", wanted.idle),  # macOS's name for it
        ("TCP_KEEPINTVL", wanted.interval),
        ("TCP_KEEPCNT", wanted.count),
        ("TCP_USER_TIMEOUT", wanted.user_timeout),
    )
    for name, value in options:
        if value is not None and hasattr(socket, name):  # not every system has them all
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
