"""Who may use the console, and for what.

A user of ``server.admin_users`` may do everything, one of ``server.stats_users`` look; both prove who they are as at
any other login. Where nobody is configured and local clients are trusted, whoever comes over a Unix socket from the
server's own account (or root) may do everything, and everybody else look.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING, Any

from ..login.errors import LoginRefused

if TYPE_CHECKING:
    from ...config.features import Server
    from ..client.link import Link


def may_act(settings: Server, trusting: bool, user: str, link: Link) -> bool:
    """Whether *user* may do more than look.

    Raises:
        LoginRefused: *user* may not even look (42501).
    """
    if user in settings.admin_users:
        return True
    if user in settings.stats_users:
        return False
    if not trusting or settings.admin_users or settings.stats_users:
        raise LoginRefused(
            f'user "{user}" may not use the console: server.admin_users and server.stats_users name those who may',
            sqlstate="42501",
        )
    return link.local and _account(link.transport) in (os.geteuid(), 0)


def _account(transport: Any) -> int:
    """The account at the other end of a Unix socket; -1 = that cannot be known."""
    ours = transport.get_extra_info("socket")
    if not hasattr(socket, "SO_PEERCRED"):
        return -1
    # uvloop's object for a socket has no options: ask by its descriptor.
    with socket.socket(fileno=os.dup(ours.fileno())) as same:
        credentials = same.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])
