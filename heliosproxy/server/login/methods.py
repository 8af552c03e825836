"""How a server may ask who we are: libpq's ``require_auth`` (PostgreSQL, 34.1.2)."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import ConfigError

CHANNEL_BINDING = ("disable", "require")
"""Values of ``channel_binding`` besides "prefer"."""

OURS = frozenset({"none", "password", "md5", "scram-sha-256"})
"""The methods that we can do; "none" = the server asks for nothing, or for a certificate only."""

_KNOWN = OURS | {"gss", "sspi", "oauth"}


@dataclass(frozen=True, slots=True)
class Methods:
    """The methods that will do.

    Attributes:
        allowed: their names, as ``require_auth`` calls them; default all that we can do.
        named: they were named one by one; then a cleartext password over a line that is not encrypted is what
            somebody wanted.
    """

    allowed: frozenset[str] = OURS
    named: bool = False

    @classmethod
    def parse(cls, text: str) -> Methods:
        """The methods of ``require_auth``: a list, of names or of ``!name``; "" = all.

        Raises:
            ConfigError: one is unknown or given twice, or names and ``!names`` are mixed, or none is left that
                we can do.
        """
        if not text:
            return cls()
        words = [word.strip() for word in text.split(",")]
        names = [word.removeprefix("!") for word in words]
        for name in names:
            if name not in _KNOWN:
                raise ConfigError(f'require_auth: "{name}" is not one of {", ".join(sorted(_KNOWN))}')
        if len(set(names)) < len(names):
            raise ConfigError("require_auth: a method is given twice")
        without = [word for word in words if word.startswith("!")]
        if without and len(without) < len(words):
            raise ConfigError("require_auth: methods and !methods cannot be mixed")
        allowed = OURS - set(names) if without else OURS & set(names)
        if not allowed:
            raise ConfigError(
                f"require_auth={text}: the proxy can do none of these; it has {', '.join(sorted(OURS))}"
            )
        return cls(allowed, not without)
