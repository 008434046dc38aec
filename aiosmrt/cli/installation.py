"""What is installed here, as a report of a fault needs it."""

from __future__ import annotations

import importlib.metadata
import platform

from aiosmrt.version import __version__

__all__ = ["describe_installation"]

# What the client is made of, and what changes how it runs.
_PACKAGES = ("aiohttp", "attrs", "botocore", "uvloop", "openai", "opentelemetry-api")


def describe_installation() -> str:
    """Give the versions of this package, of Python, of the platform and of what is used here."""
    lines = [
        f"aiosmrt {__version__}",
        f"{platform.python_implementation()} {platform.python_version()}",
        platform.platform(),
    ]
    for name in _PACKAGES:
        try:
            lines.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return "\n".join(lines)
