"""Where each option comes from, and what it comes to.

It reads arguments, variables and profiles, and may ask botocore where nobody else knows.
"""

from __future__ import annotations

from aiosmrt.settings.endpoints import PARTITIONS, validate_region
from aiosmrt.settings.options import (
    IDENTITY,
    RESOLVED,
    bind_parameters,
    choose_constraints,
    configure,
    refuse_pool_options,
)
from aiosmrt.settings.plain_http import (
    is_exposed,
    is_loopback,
    judge_plain_http,
    warn_of_plain_http,
)
from aiosmrt.settings.resolution import (
    Resolution,
    Resolved,
    build_policy,
    choose_proxy,
    find_settings,
)
from aiosmrt.settings.sources import Setting, Settings
from aiosmrt.settings.tls import default_context

__all__ = [
    "IDENTITY",
    "PARTITIONS",
    "RESOLVED",
    "Resolution",
    "Resolved",
    "Setting",
    "Settings",
    "bind_parameters",
    "build_policy",
    "choose_constraints",
    "choose_proxy",
    "configure",
    "default_context",
    "find_settings",
    "is_exposed",
    "is_loopback",
    "judge_plain_http",
    "refuse_pool_options",
    "validate_region",
    "warn_of_plain_http",
]
