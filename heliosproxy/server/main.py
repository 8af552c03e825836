"""``heliosproxy serve``: in the foreground, until SIGTERM or Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .workers.supervisor import Supervisor

if TYPE_CHECKING:
    from ..config import Config


def run(
    config: Config,
    started: Callable[[list[str]], None] | None = None,
    reload: Callable[[], Config] | None = None,
) -> None:
    """Serve as *config* says, until a signal ends it: SIGTERM waits for open transactions, SIGINT does not.

    Args:
        started: called with the addresses as soon as clients can connect.
        reload: reads the configuration anew, for SIGHUP and RELOAD; None (default) = there is nothing to read.

    Raises:
        ConfigError: there is no server to connect to; a file or a value cannot be used; an address cannot be
            listened on, or is not safe.
        UnsupportedError: what this version does not have.
    """
    if config.server is None:
        raise ConfigError("no [server] section, and no --listen", key="server.listen")
    Supervisor(config, reload, started).run()
