"""The engine plugin: an engine that an application has already, with heliosproxy in it."""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine import URL, CreateEnginePlugin

from ..dbapi.opening import PREFIX
from ..errors import ConfigError

# psycopg's two dialects, and ours in their place; in ours the plugin changes nothing.
_OURS = {"psycopg": "heliosproxy", "psycopg_async": "heliosproxy_async"}


class HeliosPlugin(CreateEnginePlugin):
    """``create_engine("postgresql+psycopg://…", plugins=["heliosproxy"])``.

    ``helios_…`` options are taken from the URL and from the keywords of ``create_engine()``. The engine's ``url``
    stays what it was, without them.

    Raises:
        ConfigError: the URL is of another driver than psycopg.
    """

    def __init__(self, url: URL, kwargs: dict[str, Any]) -> None:
        backend, driver = url.get_backend_name(), url.get_driver_name()
        self._driver = _OURS.get(driver, driver)
        if backend != "postgresql" or self._driver not in _OURS.values():
            raise ConfigError(
                f"plugin heliosproxy: it works in postgresql+psycopg://, and this is {backend}+{driver}://;"
                " for other drivers of PostgreSQL there is heliosproxy.serve()"
            )
        ours = [name for name in url.query if name.startswith(PREFIX)]
        self._url = url.difference_update_query(["plugin", "plugins", *ours])

    def update_url(self, url: URL) -> URL:
        """By the driver's name SQLAlchemy finds our dialect."""
        return url.set(drivername=f"postgresql+{self._driver}")

    def engine_created(self, engine: Any) -> None:
        """The application sees the URL that it wrote."""
        engine.url = self._url
