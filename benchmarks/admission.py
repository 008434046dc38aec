"""An endpoint that admits so many calls, and refuses the others as throttled.

It prints its URL and serves until its standard input ends. A call takes about so many ms, from four
fifths of that to six fifths. The endpoint's name says what is admitted:

- `slots-16-50`: 16 calls at a time, of 50 ms
- `slots-16-50-30`: the same; from 30 s after its first call on, half of them
- `rate-300-50`: 300 calls a second, of 50 ms; a tenth of a second's may come at once
"""

from __future__ import annotations

import asyncio
import random
import re
import sys
import time

from benchmarks.server import Exchange, listen, make_answer

_ENDPOINT = re.compile(rb"POST /endpoints/(slots|rate)-([0-9]+)-([0-9]+)(?:-([0-9]+))?/")
_BURST = 0.1  # seconds of a rate
_REFUSAL = (
    b"HTTP/1.1 429 Too Many Requests\r\nx-amzn-ErrorType: ThrottlingException\r\n"
    b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
)


class Admission:
    """Who may come in.

    Args:
        kind: of what there are so many, `slots` or a `rate`.
        most: how many.
        halved_after: seconds from the first call until half of them are left; 0 for never.
    """

    def __init__(self, kind: bytes, most: int, halved_after: int) -> None:
        self.busy = 0
        self._kind = kind
        self._most = most
        self._began = self._filled_at = time.monotonic()
        self._halved_after = halved_after
        self._free = 0.0

    def admit(self) -> bool:
        """Let one more in, or not."""
        now = time.monotonic()
        halved = self._halved_after and now - self._began >= self._halved_after
        most = self._most / 2 if halved else self._most
        if self._kind == b"slots":
            admitted = self.busy < most
        else:
            gained = (now - self._filled_at) * most
            self._free, self._filled_at = min(most * _BURST, self._free + gained), now
            admitted = self._free >= 1
            self._free -= admitted
        self.busy += admitted
        return admitted


_admissions: dict[bytes, Admission] = {}


class Door(Exchange):
    """A connection to it."""

    _inside: Admission | None = None  # while a call is

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._leave()

    def _answer(self) -> None:
        found = _ENDPOINT.match(self._head)
        assert found is not None
        admission = _admissions.get(found[0])
        if admission is None:
            made = Admission(found[1], int(found[2]), int(found[4] or 0))
            admission = _admissions[found[0]] = made
        if admission.admit():
            self._inside = admission
            seconds = int(found[3]) / 1000 * random.uniform(0.8, 1.2)
            self._timer = self._loop.call_later(seconds, self._finish)
        else:
            self._transport.write(_REFUSAL)

    def _finish(self) -> None:
        self._leave()
        self._transport.write(make_answer(1024))

    def _leave(self) -> None:
        if self._inside is not None:
            self._inside.busy -= 1
            self._inside = None


if __name__ == "__main__":
    asyncio.run(listen(Door, *sys.argv[1:2]))
