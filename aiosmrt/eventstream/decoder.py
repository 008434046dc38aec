"""Frames to messages, incrementally: bytes go in, in any split, and verified messages come out."""

from __future__ import annotations

import copy
import functools
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from struct import Struct
from types import MappingProxyType
from typing import Final, TypeAlias, TypeVar
from zlib import crc32

import attrs

from aiosmrt.errors import (
    EventStreamError,
    InvalidLength,
    MessageChecksumMismatch,
    PreludeChecksumMismatch,
    TruncatedStream,
)
from aiosmrt.eventstream.headers import HeaderValue, decode_headers
from aiosmrt.eventstream.message import Message
from aiosmrt.tracebacks import drop_tracebacks

__all__ = ["EventStreamDecoder"]

# The specification's limits (24 MiB of payload, 128 KiB of headers) bind services, and clients
# MUST NOT check them; these only bound the memory that a broken sender can claim.
DEFAULT_MAX_MESSAGE_LENGTH: Final = 32 * 1024 * 1024  # bytes
DEFAULT_MAX_HEADERS_LENGTH: Final = 1024 * 1024  # bytes

_PRELUDE: Final = Struct(">III")  # total length, headers length, CRC of these eight bytes
_PRELUDE_LENGTH: Final = 12  # bytes
_FIRST_PRELUDE: Final = slice(_PRELUDE_LENGTH)  # made once: 15 ns less per frame
_CRC_LENGTH: Final = 4  # bytes
_OVERHEAD: Final = _PRELUDE_LENGTH + _CRC_LENGTH

# A cut frame of at most so many bytes waits to be whole, a longer one is hashed as it comes, in
# pieces of at least so many: crumbs are neither hashed one by one nor kept in a list for long.
_PIECE: Final = 1024

# So many preludes and header blocks are remembered, and no block longer than so many bytes.
_REMEMBERED: Final = 512
_REMEMBERED_LENGTH: Final = 512

_T = TypeVar("_T")
_Headers: TypeAlias = Mapping[str, HeaderValue]
_Layout: TypeAlias = Callable[[bytes, int], tuple[bytes, bytes, int]]
# A frame seen before: its length, what cuts it into head (prelude and header block), payload and
# CRC, the head's bytes, the headers in it, and the head's CRC.
_Shape: TypeAlias = tuple[int, _Layout, bytes, _Headers, int]

# Decoders remember together, and only what one of them has verified: a process that reads a
# thousand streams learns each shape once, and holds it once.
_known_headers: dict[bytes, _Headers] = {}  # by header block


@functools.lru_cache(maxsize=8)
def _share_shapes(
    max_message_length: int,  # noqa: ARG001 - a key: what passes these limits need not pass others
    max_headers_length: int,  # noqa: ARG001 - as above
) -> dict[bytes, _Shape]:
    """Give the shapes that all decoders of these limits know, by prelude."""
    return {}


def _remember(known: dict[bytes, _T], key: bytes, value: _T) -> None:
    if len(known) >= _REMEMBERED:
        known.clear()  # what is still in use is learned again at once
    known[key] = value


_new = object.__new__


@attrs.define
class _LongFrame:
    """A frame under way whose head is there and whose payload is collected in pieces."""

    offset: int  # bytes of the stream before it
    head: bytes  # prelude and header block
    missing: int  # bytes of the payload still to come
    crc: int  # of all that came
    pieces: list[bytes] = attrs.field(factory=list)


class EventStreamDecoder:
    """Turns the bytes of one event stream into messages.

    A prelude's CRC and both its lengths are checked as soon as its twelve bytes are there, and no
    byte of a message is handed out before the message's CRC and its headers were checked. A bad
    frame is the end of the stream: where the next one would begin cannot be known.

    Whatever the bytes are, nothing but `EventStreamError` comes out; anything else is a bug. The
    work is linear in the bytes, however they are split.

    Args:
        max_message_length: the most bytes of a frame, its 16 bytes of lengths and CRCs included.
        max_headers_length: the most bytes of a frame's header block.

    Attributes:
        error: what is wrong with the frame behind the messages that wait, `None` so far.
    """

    __slots__ = (
        "_long",
        "_max_headers_length",
        "_max_message_length",
        "_messages",
        "_missing",
        "_pieces",
        "_received",
        "_shape",
        "_shape_of",
        "_shapes",
        "error",
    )

    def __init__(
        self,
        *,
        max_message_length: int = DEFAULT_MAX_MESSAGE_LENGTH,
        max_headers_length: int = DEFAULT_MAX_HEADERS_LENGTH,
    ) -> None:
        self._max_message_length = max_message_length
        self._max_headers_length = max_headers_length
        self._received = 0  # bytes of the stream, but for the pieces
        self._messages: deque[Message] = deque()  # verified, not fetched yet
        self.error: EventStreamError | None = None
        self._pieces: list[bytes] = []  # received, but not enough to go on
        self._missing = 0  # bytes it takes to go on; 0 between frames
        self._shape: _Shape | None = None  # of the frame that the pieces begin, if it is known
        self._long: _LongFrame | None = None
        self._shapes = _share_shapes(max_message_length, max_headers_length)
        self._shape_of = self._shapes.get  # bound once: 15 ns less per frame

    def receive_data(  # noqa: C901, PLR0912, PLR0915 - the hot loop, whose calls would cost more than its work
        self, data: bytes | bytearray | memoryview
    ) -> None:
        """Take the next bytes of the stream and parse at once what they complete.

        A bad frame is not raised here: it is kept for `next_message`, and all data behind it is
        ignored.
        """
        if type(data) is not bytes:
            data = memoryview(data).tobytes()  # the caller may go on using its buffer
        end = len(data)
        missing = self._missing
        if end < missing:
            if end:
                self._pieces.append(data)
                self._missing = missing - end
            return
        position = 0
        shape_of = self._shape_of
        try:
            if not missing:
                shape = shape_of(data[_FIRST_PRELUDE])
            else:
                pieces, shape, long = self._pieces, self._shape, self._long
                if long is not None and _PIECE <= end <= long.missing - _PIECE and not pieces:
                    # The middle of a long frame, and most of its bytes.
                    long.pieces.append(data)
                    long.missing -= end
                    long.crc = crc32(data, long.crc)
                    self._received += end
                    return
                if shape is None and self.error is not None:
                    return
                pieces.append(data)
                data = b"".join(pieces)
                end = len(data)
                pieces.clear()
                self._missing = 0
                if long is not None:
                    position = self._continue(long, data)
                    shape = shape_of(data[position : position + _PRELUDE_LENGTH])
                elif shape is None:
                    shape = shape_of(data[_FIRST_PRELUDE])
            while position < end:
                # Most frames are like an earlier one: same prelude, same header block. Then the
                # head is compared, not parsed again, and the message's CRC goes on from the head's.
                if shape is not None:
                    length, layout, known_head, headers, head_crc = shape
                    stop = position + length
                    if stop <= end:
                        head, payload, declared = layout(data, position)
                        if head == known_head and crc32(payload, head_crc) == declared:
                            # As Message(headers, payload), but 40 to 60 ns faster.
                            message = _new(Message)
                            message.headers = headers
                            message.payload = payload
                            self._messages.append(message)
                            if stop == end:
                                self._received += end
                                return
                            position = stop
                            shape = shape_of(data[position : position + _PRELUDE_LENGTH])
                            continue
                    elif length <= _PIECE:
                        if position:
                            data = data[position:]
                            self._received += position
                        self._pieces.append(data)
                        self._missing = stop - end
                        self._shape = shape
                        return
                self._shape = None
                position = self._take_frame(data, position)
                shape = shape_of(data[position : position + _PRELUDE_LENGTH])
            self._received += end - sum(map(len, self._pieces))
        except EventStreamError as error:
            self._fail(error)

    def next_message(self) -> Message | None:
        """Give the next verified message, `None` where it takes more data.

        Raises:
            EventStreamError: what is wrong with the next frame, once all messages before it were
                given, and again at every further call.
        """
        if self._messages:
            return self._messages.popleft()
        if self.error is not None:
            raise copy.copy(self.error)
        return None

    def take_messages(self) -> Iterable[Message]:
        """Give all verified messages that wait, in order; none where it takes more data.

        Raises:
            EventStreamError: as `next_message`, where no message waits.
        """
        messages = self._messages
        if len(messages) == 1:
            return (messages.popleft(),)  # spares a queue where messages come alone
        if not messages and self.error is not None:
            raise copy.copy(self.error)
        self._messages = deque()
        return messages

    @property
    def offset(self) -> int:
        """The bytes of the stream before the frame that is open, at fault, or would come next."""
        if self._long is not None:
            return self._long.offset
        return self._received

    def receive_eof(self) -> None:
        """Take note that the stream has ended.

        Messages that were not fetched yet stay with `next_message`, which afterwards raises the
        same error.

        Raises:
            TruncatedStream: a frame is open.
            EventStreamError: what is wrong with a frame received before.
        """
        if self._missing and self.error is None:
            offset = self.offset
            received = self._received + sum(map(len, self._pieces))
            self._fail(
                TruncatedStream(
                    f"the stream ended after {received} bytes,"
                    f" {received - offset} bytes into the frame at byte {offset}",
                    offset=offset,
                )
            )
        if self.error is not None:
            raise copy.copy(self.error)

    def _fail(self, error: EventStreamError) -> None:
        self.error = drop_tracebacks(error)
        self._missing = 1  # which leads receive_data to the error
        self._received = error.offset
        self._pieces.clear()
        self._long = self._shape = None

    def _take_frame(self, data: bytes, position: int) -> int:
        """Take the frame at `position`, or keep what is there of it, and give the end of that."""
        end = len(data)
        available = end - position
        offset = self._received + position
        prelude = data[position : position + _PRELUDE_LENGTH]
        if available < _PRELUDE_LENGTH:
            self._pieces.append(prelude)
            self._missing = _PRELUDE_LENGTH - available
            return end
        length, headers_length = self._check_prelude(prelude, offset)
        body = position + _PRELUDE_LENGTH + headers_length
        stop = position + length
        head = data[position:body]
        if available >= length:
            payload = data[body : stop - _CRC_LENGTH]
            declared = data[stop - _CRC_LENGTH : stop]
            self._deliver(offset, head, payload, crc32(payload, crc32(head)), declared)
            return stop
        if length <= _PIECE:
            self._missing = length - available
        elif end < body:
            self._missing = body - end
        else:
            payload_length = length - headers_length - _OVERHEAD
            self._long = _LongFrame(offset, head, payload_length, crc32(head))
            self._continue(self._long, data[body:])
            return end
        self._pieces.append(data[position:])
        return end

    def _continue(self, frame: _LongFrame, data: bytes) -> int:
        """Take what `data` begins with of a long frame and give the end of it."""
        piece = data[: frame.missing]
        if piece:
            frame.pieces.append(piece)
            frame.missing -= len(piece)
            frame.crc = crc32(piece, frame.crc)
        stop = len(piece) + _CRC_LENGTH
        if frame.missing or len(data) < stop:
            rest = data[len(piece) :]  # of the CRC
            if rest:
                self._pieces.append(rest)
            self._missing = min(frame.missing + _CRC_LENGTH, _PIECE) - len(rest)
            return len(data)
        self._long = None
        payload = b"".join(frame.pieces)
        self._deliver(frame.offset, frame.head, payload, frame.crc, data[len(piece) : stop])
        return stop

    def _check_prelude(self, prelude: bytes, offset: int) -> tuple[int, int]:
        """Give total length and headers length, both to be relied on."""
        length, headers_length, declared = _PRELUDE.unpack(prelude)
        computed = crc32(prelude[:-_CRC_LENGTH])
        if computed != declared:
            raise PreludeChecksumMismatch(
                f"the frame at byte {offset} declares the CRC {declared:#010x} for its lengths,"
                f" computed is {computed:#010x}; it begins with {prelude!r}: is this an event"
                " stream at all?",
                offset=offset,
            )
        if length < _OVERHEAD or headers_length > length - _OVERHEAD:
            raise InvalidLength(
                f"the frame at byte {offset} declares {length} bytes and {headers_length} of them"
                f" headers, but {_OVERHEAD} are neither headers nor payload",
                offset=offset,
            )
        if length > self._max_message_length:
            raise InvalidLength(
                f"the frame at byte {offset} declares {length} bytes,"
                f" max_message_length allows {self._max_message_length}",
                offset=offset,
            )
        if headers_length > self._max_headers_length:
            raise InvalidLength(
                f"the frame at byte {offset} declares {headers_length} bytes of headers,"
                f" max_headers_length allows {self._max_headers_length}",
                offset=offset,
            )
        return length, headers_length

    def _deliver(
        self, offset: int, head: bytes, payload: bytes, computed: int, declared: bytes
    ) -> None:
        """Verify a whole frame, remember what it is like, and queue its message."""
        length = len(head) + len(payload) + _CRC_LENGTH
        if computed != int.from_bytes(declared):
            raise MessageChecksumMismatch(
                f"the frame at byte {offset} declares the CRC 0x{declared.hex()} for its {length}"
                f" bytes, computed is {computed:#010x}",
                offset=offset,
            )
        block = head[_PRELUDE_LENGTH:]
        familiar = len(block) <= _REMEMBERED_LENGTH
        headers = _known_headers.get(block)
        if headers is None:
            # Shared by messages, so nobody may write to it.
            headers = MappingProxyType(decode_headers(block, offset=offset))
            if familiar:
                _remember(_known_headers, block, headers)
        if familiar:
            layout = Struct(f">{len(head)}s{len(payload)}sI").unpack_from
            shape = (length, layout, head, headers, crc32(head))
            _remember(self._shapes, head[:_PRELUDE_LENGTH], shape)
        self._messages.append(Message(headers, payload))
