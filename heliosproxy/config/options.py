"""The ``helios_…`` options of ``connect()``: keywords, or parameters of a connection string."""

from __future__ import annotations

import os
from collections.abc import Mapping

from heliosproxy.config.keys import nearest
from heliosproxy.config.model import Config
from heliosproxy.config.sources import Layer, read_environment, read_file, read_overrides
from heliosproxy.errors import ConfigError

FILE_OPTION = "helios_config"

OPTIONS: dict[str, str] = {
    "helios_mode": "pool.mode",
    "helios_max_connections": "pool.max_connections",
    "helios_server_connections": "pool.server_connections",
    "helios_pool_timeout": "pool.timeout",
    "helios_cache": "cache.enabled",
    "helios_cache_size": "cache.l1.size",
    "helios_cache_ttl": "cache.l1.ttl",
}
"""Each option and the key it sets; `FILE_OPTION` names the file instead."""


def from_options(options: Mapping[str, object], *, environ: Mapping[str, str] = os.environ) -> Config:
    """The configuration that *options* ask for; they beat the environment, which beats the file.

    Args:
        options: names of `OPTIONS` or ``"helios_config"`` (path of a file; None = no file) to values, which
            are Python's (``True``, ``20``) or text (``"on"``, ``"20"``).
        environ: as for `Config.load`.

    Raises:
        ConfigError: an option is unknown, or for a cause that `Config.load` names.
    """
    layer = _layer(options)
    file = options.get(FILE_OPTION)
    if file is not None and not isinstance(file, str | os.PathLike):
        raise ConfigError(f"{FILE_OPTION}: the path of a file is wanted", key=FILE_OPTION)
    return Config.from_layers(
        *([] if file is None else [read_file(file, environ)]), read_environment(Config, environ), layer
    )


def over(mapping: Mapping[str, object], options: Mapping[str, object]) -> Config:
    """As `Config.from_mapping`, with *options* laid over it.

    Raises:
        ConfigError: an option is unknown, or for a cause that `Config.from_mapping` names.
    """
    return Config.from_layers(read_overrides(mapping), _layer(options))


def _layer(options: Mapping[str, object]) -> Layer:
    overrides: dict[str, object] = {}
    names: dict[tuple[str, ...], str] = {}
    for option, value in options.items():
        if option == FILE_OPTION:
            continue
        if option not in OPTIONS:
            near = nearest(option, [FILE_OPTION, *OPTIONS])
            hint = f'did you mean "{near}"?' if near else f"there are {', '.join([FILE_OPTION, *OPTIONS])}"
            raise ConfigError(f"{option}: unknown option, {hint}", key=option)
        overrides[OPTIONS[option]] = value
        names[tuple(OPTIONS[option].split("."))] = option
    return read_overrides(overrides, names)
