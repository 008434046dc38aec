"""The `aiosmrt` command."""

from __future__ import annotations

from aiosmrt.cli.command import main

__all__ = ["main"]
