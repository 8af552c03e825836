"""Names of relations, as an application gives them to ``invalidate()``."""

from __future__ import annotations

from ..errors import ConfigError


def check_names(names: tuple[object, ...]) -> None:
    """Nothing, when *names* are names.

    Raises:
        ConfigError: there is none, or one is no text.
    """
    if not names:
        raise ConfigError(
            'invalidate() needs the name of a table, such as "users"; flush() forgets everything'
        )
    for name in names:
        if not isinstance(name, str) or not name:
            raise ConfigError(
                f"invalidate(): the name of a table is wanted, as text, not {name!r}; several are given one by one:"
                ' invalidate("users", "shop.orders")'
            )
