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
from aiosmrt.settings.resolution import Resolution, Resolved
from aiosmrt.settings.sources import Setting
from aiosmrt.settings.tls import default_context

__all__ = [
    "IDENTITY",
    "PARTITIONS",
    "RESOLVED",
    "Resolution",
    "Resolved",
    "Setting",
    "bind_parameters",
    "choose_constraints",
    "configure",
    "default_context",
    "refuse_pool_options",
    "validate_region",
]
