"""The time that signatures carry: this machine's, corrected by what the service shows. Pure."""

from __future__ import annotations

import datetime

from aiosmrt.http import parse_date

__all__ = ["Clock"]

# Seconds by which the two clocks must differ before a refused signature is put down to that: the
# SDKs' figure. The service itself takes signatures up to five minutes old.
_TOLERANCE = 240.0
# Seconds, some 300 years, beyond which a date is nonsense: a machine whose clock has begun in 1970
# is decades off, no more.
_NONSENSE = 1e10


class Clock:
    """This machine's clock and its distance from the service's, which clients share.

    Attributes:
        offset: seconds that are added to this machine's time.
    """

    __slots__ = ("offset",)

    def __init__(self, offset: float = 0.0) -> None:
        self.offset: float = offset

    def now(self) -> datetime.datetime:
        """Give the service's time, as far as it is known (UTC)."""
        now = datetime.datetime.now(datetime.UTC)
        return now + datetime.timedelta(seconds=self.offset) if self.offset else now

    def correct(self, signed_at: datetime.datetime, date: str | None) -> bool:
        """Learn from an answer that refuses a signature.

        Args:
            signed_at: the time that the signature carried.
            date: the answer's `Date` header (RFC 9110 section 5.6.7).

        Returns:
            Whether the two differ by so much that signing anew, by the corrected clock, may help.
        """
        server = parse_date(date or "")
        if server is None or abs((server - signed_at).total_seconds()) <= _TOLERANCE:
            return False
        offset = (server - datetime.datetime.now(datetime.UTC)).total_seconds()
        if abs(offset) > _NONSENSE:
            return False
        # Another call may have corrected it since this one signed.
        if abs(offset - self.offset) > _TOLERANCE:
            self.offset = offset
        return True
