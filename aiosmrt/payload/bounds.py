"""How much of a payload a decoder keeps until it can give it."""

from __future__ import annotations

from typing import Final

from aiosmrt.errors import PayloadTooLarge

__all__ = ["DEFAULT_MAX_LENGTH", "name_too_large"]

# As for a frame of the event stream. No sane line, document or event is that long; it only bounds
# the memory that a broken model can claim.
DEFAULT_MAX_LENGTH: Final = 32 * 1024 * 1024  # bytes


def name_too_large(what: str, option: str, limit: int, offset: int) -> PayloadTooLarge:
    """Say what is too long, where it is in the payload, and which option bounds it, in bytes."""
    return PayloadTooLarge(
        f"the {what} at byte {offset} of the payload is longer than {limit} bytes: give a larger"
        f" {option} if it is meant to be",
        offset=offset,
        limit=limit,
    )
