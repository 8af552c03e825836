"""Sections on who is asking, for whom, and how much they may.

Like those of features.py they are typed today and refused until their feature is built.
"""

from __future__ import annotations

from pydantic import SecretStr, field_validator

from heliosproxy.config.base import Count, Name, Section, distinct
from heliosproxy.config.units import Size


class Jwt(Section):
    """``[auth.jwt]``. None = the claim or address is not used."""

    enabled: bool = False
    issuer: Name | None = None
    audience: Name | None = None
    jwks_url: Name | None = None
    tenant_claim: Name | None = None
    role_claim: Name | None = None


class ApiKey(Section):
    """``[auth.api_key]``: the HTTP header that carries it."""

    enabled: bool = False
    header: Name = "X-API-Key"


class Ldap(Section):
    """``[auth.ldap]``."""

    enabled: bool = False
    server: Name | None = None
    base_dn: Name | None = None


class Auth(Section):
    """``[auth]``."""

    enabled: bool = False
    jwt: Jwt = Jwt()
    api_key: ApiKey = ApiKey()
    ldap: Ldap = Ldap()


class User(Section):
    """One ``[[user]]``: who may log in to ``heliosproxy serve``, and what proves it (a SCRAM verifier).

    ``max_connections`` is how many clients of it may be connected; None = ``server.max_user_connections``.
    """

    name: Name
    verifier: SecretStr
    max_connections: Count | None = None


class Tenant(Section):
    """One ``[[tenancy.tenant]]``. None = no limit of its own."""

    id: Name
    database: Name
    pool_size: Count | None = None
    cache_size: Size | None = None
    rate_limit_qps: Count | None = None


class Tenancy(Section):
    """``[tenancy]``. ``default_tenant`` None = a request without a tenant is rejected."""

    enabled: bool = False
    tenant_header: Name = "X-Tenant-ID"
    default_tenant: Name | None = None
    tenant: tuple[Tenant, ...] = ()

    @field_validator("tenant")
    @classmethod
    def _distinct(cls, value: tuple[Tenant, ...]) -> tuple[Tenant, ...]:
        return distinct(value, "id")


class TenantLimit(Section):
    """One ``[[rate_limit.tenant]]``. None = unlimited; ``burst`` None = ``qps``."""

    id: Name
    qps: Count | None = None
    connections: Count | None = None
    burst: Count | None = None


class RateLimit(Section):
    """``[rate_limit]``. None = unlimited."""

    enabled: bool = False
    global_qps: Count | None = None
    global_connections: Count | None = None
    tenant: tuple[TenantLimit, ...] = ()

    @field_validator("tenant")
    @classmethod
    def _distinct(cls, value: tuple[TenantLimit, ...]) -> tuple[TenantLimit, ...]:
        return distinct(value, "id")
