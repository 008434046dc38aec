"""Frozen options: what a client can be told."""

from __future__ import annotations

import datetime

import attrs

__all__ = ["Credentials"]


@attrs.frozen
class Credentials:
    """A key pair, for a session also its token; `expires_at` is an aware datetime or `None`."""

    access_key_id: str
    secret_access_key: str = attrs.field(repr=False)
    session_token: str | None = attrs.field(default=None, repr=False)
    expires_at: datetime.datetime | None = None
