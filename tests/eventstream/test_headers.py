from __future__ import annotations

import datetime
import pickle
import struct
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosmrt.errors import InvalidHeader
from aiosmrt.eventstream import Byte, HeaderValue, Integer, Long, Short, Timestamp
from aiosmrt.eventstream.headers import decode_headers, encode_headers

UUID = uuid.UUID("01020304-0506-0708-090a-0b0c0d0e0f10")

# One header named "n": its bytes behind the name, and what they say.
EACH_TYPE: list[tuple[bytes, HeaderValue]] = [
    (b"\0", True),
    (b"\1", False),
    (b"\2\xcf", Byte(-49)),
    (b"\3\x00\x2a", Short(42)),
    (b"\4\x00\x00\xa0\x0c", Integer(40972)),
    (b"\5\xff\xff\xff\xff\xff\xff\xff\xff", Long(-1)),
    (b"\6\x00\x02\x00\xff", b"\x00\xff"),
    (b"\7\x00\x03\xe2\x82\xac", "€"),
    (b"\x08\x00\x00\x00\x00\x00\x84\x5f\xed", Timestamp(8675309)),
    (b"\x09" + UUID.bytes, UUID),
]

NUMBERS: list[tuple[type[int], int]] = [
    (Byte, 8),
    (Short, 16),
    (Integer, 32),
    (Long, 64),
    (Timestamp, 64),
]


@pytest.mark.parametrize(("wire", "value"), EACH_TYPE)
def test_each_type_decodes_and_encodes(wire: bytes, value: HeaderValue) -> None:
    (decoded,) = decode_headers(b"\1n" + wire).values()
    assert decoded == value
    assert type(decoded) is type(value)
    assert encode_headers({"n": decoded}) == b"\1n" + wire


def test_all_types_in_one_block_keep_their_order() -> None:
    block = b"".join(b"\1%d" % i + wire for i, (wire, _) in enumerate(EACH_TYPE))
    headers = decode_headers(block)
    assert list(headers) == list("0123456789")
    assert encode_headers(headers) == block


def test_an_empty_block_has_no_headers() -> None:
    assert decode_headers(b"") == {}
    assert encode_headers({}) == b""


@pytest.mark.parametrize(("wire", "value"), [(b"\6\0\0", b""), (b"\7\0\0", "")])
def test_empty_values_are_accepted(wire: bytes, value: HeaderValue) -> None:
    assert decode_headers(b"\1n" + wire) == {"n": value}
    assert encode_headers({"n": value}) == b"\1n" + wire


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        (b"\0\0", "name is empty"),
        (b"\0", "name is empty"),
        (b"\1", "name of 1 bytes goes past"),
        (b"\1n", "name of 1 bytes goes past"),
        (b"\2n", "name of 2 bytes goes past"),
        (b"\xffn\0", "name of 255 bytes goes past"),
        (b"\1n\x0a", "'n' has the type 10"),
        (b"\1n\xff", "'n' has the type 255"),
        (b"\1n\2", "'n' goes past the end of the headers by 1 bytes"),
        (b"\1n\3\0", "past the end of the headers by 1 bytes"),
        (b"\1n\4\0\0\0", "past the end of the headers by 1 bytes"),
        (b"\1n\5\0\0\0\0\0\0\0", "past the end of the headers by 1 bytes"),
        (b"\1n\x08\0\0\0\0\0\0\0", "past the end of the headers by 1 bytes"),
        (b"\1n\x09" + bytes(15), "past the end of the headers by 1 bytes"),
        (b"\1n\6", "past the end of the headers by 2 bytes"),
        (b"\1n\6\0", "past the end of the headers by 1 bytes"),
        (b"\1n\6\0\1", "past the end of the headers by 1 bytes"),
        (b"\1n\7\0\4abc", "past the end of the headers by 1 bytes"),
        (b"\1n\7\x7f\xffabc", "past the end of the headers by 32764 bytes"),
        (b"\1n\7\x80\x00" + bytes(32768), "'n' has 32768 bytes, 32767 are allowed"),
        (b"\1n\6\xff\xff" + bytes(65535), "'n' has 65535 bytes, 32767 are allowed"),
        (b"\1\xff\0", "utf-8"),
        (b"\1n\7\0\1\xff", "utf-8"),
        (b"\1n\7\0\3\xed\xa0\x80", "utf-8"),
        (b"\1n\0\1n\0", "'n' was there before"),
        (b"\1n\0\1n\7\0\0", "'n' was there before"),
    ],
)
def test_malformed_blocks_are_refused(block: bytes, problem: str) -> None:
    with pytest.raises(InvalidHeader) as caught:
        decode_headers(block, offset=7)
    assert problem in str(caught.value)
    assert "frame at byte 7" in str(caught.value)
    assert caught.value.offset == 7


def test_the_error_says_which_header() -> None:
    with pytest.raises(InvalidHeader, match=r"header 2 \(byte 3 of the 6 bytes of headers\)"):
        decode_headers(b"\1a\0\1b\x0c")


def test_the_error_does_not_keep_the_bytes_alive() -> None:
    with pytest.raises(InvalidHeader) as caught:
        decode_headers(b"\1\xff\0")
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(("number", "bits"), NUMBERS)
def test_numbers_cover_their_whole_range_and_no_more(number: type[int], bits: int) -> None:
    for value in (number(-(2 ** (bits - 1))), number(-1), number(2 ** (bits - 1) - 1)):
        (decoded,) = decode_headers(encode_headers({"n": value})).values()
        assert decoded == value
        assert type(decoded) is number
    for value in (number(-(2 ** (bits - 1)) - 1), number(2 ** (bits - 1))):
        with pytest.raises(ValueError, match=f"'n': .* does not fit into {bits} bits"):
            encode_headers({"n": value})


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0, Integer),
        (2**31 - 1, Integer),
        (-(2**31), Integer),
        (2**31, Long),
        (-(2**31) - 1, Long),
        (2**63 - 1, Long),
    ],
)
def test_a_plain_int_is_an_integer_or_where_too_large_a_long(value: int, number: type[int]) -> None:
    (decoded,) = decode_headers(encode_headers({"n": value})).values()
    assert decoded == value
    assert type(decoded) is number


def test_numbers_are_ints_that_tell_their_type() -> None:
    assert Short(3) + 1 == 4
    assert repr(Short(-3)) == "Short(-3)"
    assert str(Short(-3)) == f"{Short(-3)}" == "-3"
    copy = pickle.loads(pickle.dumps(Short(3)))
    assert (type(copy), copy) == (Short, 3)


def test_a_timestamp_is_a_moment_in_utc() -> None:
    moment = datetime.datetime(2026, 11, 22, 17, 30, 0, 123_000, tzinfo=datetime.UTC)
    assert Timestamp.from_datetime(moment).to_datetime() == moment
    assert Timestamp(1).to_datetime().isoformat() == "1970-01-01T00:00:00.001000+00:00"
    assert Timestamp(-1).to_datetime().isoformat() == "1969-12-31T23:59:59.999000+00:00"


def test_a_timestamp_is_exact_where_floats_are_not() -> None:
    last = datetime.datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=datetime.UTC)
    assert Timestamp.from_datetime(last) == 253_402_300_799_999
    assert Timestamp(253_402_300_799_999).to_datetime() == last


@pytest.mark.parametrize("milliseconds", [-(2**63), 2**63 - 1])
def test_a_timestamp_beyond_the_calendar_decodes(milliseconds: int) -> None:
    (decoded,) = decode_headers(b"\1n\x08" + struct.pack(">q", milliseconds)).values()
    assert decoded == milliseconds
    assert isinstance(decoded, Timestamp)
    with pytest.raises(OverflowError):
        decoded.to_datetime()


def test_an_aware_datetime_is_encoded_as_a_timestamp() -> None:
    zone = datetime.timezone(datetime.timedelta(hours=2))
    moment = datetime.datetime(1970, 1, 1, 2, 0, 1, 500_999, tzinfo=zone)
    assert encode_headers({"n": moment}) == b"\1n\x08" + struct.pack(">q", 1500)


def test_a_naive_datetime_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        encode_headers({"n": datetime.datetime(2026, 1, 1)})  # noqa: DTZ001 - naive on purpose


@pytest.mark.parametrize("name", ["n", "n" * 255, "ß" * 127 + "n"])
def test_names_of_1_to_255_bytes_are_encoded(name: str) -> None:
    assert decode_headers(encode_headers({name: True})) == {name: True}


@pytest.mark.parametrize("name", ["", "n" * 256, "ß" * 128])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a header's name has 1 to 255 bytes, not"):
        encode_headers({name: True})


@pytest.mark.parametrize("value", ["x" * 32767, b"x" * 32767, "ß" * 16383])
def test_values_up_to_32767_bytes_are_encoded(value: HeaderValue) -> None:
    assert decode_headers(encode_headers({"n": value})) == {"n": value}


@pytest.mark.parametrize("value", ["x" * 32768, b"x" * 32768, "ß" * 16384])
def test_longer_values_are_refused(value: HeaderValue) -> None:
    with pytest.raises(ValueError, match="'n' has 32768 bytes, 32767 are allowed"):
        encode_headers({"n": value})


def test_text_without_utf8_is_refused() -> None:
    with pytest.raises(ValueError, match="header 'n': no UTF-8 for"):
        encode_headers({"n": "\ud800"})
    with pytest.raises(ValueError, match="no UTF-8 for"):
        encode_headers({"\ud800": "n"})


@pytest.mark.parametrize("value", [None, 1.5, ["x"], datetime.date(2026, 1, 1), bytearray(b"x")])
def test_values_of_other_types_are_refused(value: HeaderValue) -> None:
    with pytest.raises(TypeError, match=f"header 'n' is a {type(value).__name__}"):
        encode_headers({"n": value})


def test_names_of_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match="name is a str, not bytes"):
        encode_headers({b"n": True})  # type: ignore[dict-item]  # the mistake under test


@given(st.binary(max_size=60))
def test_any_bytes_give_headers_that_encode_to_them_or_an_invalid_header(block: bytes) -> None:
    try:
        headers = decode_headers(block)
    except InvalidHeader:
        return
    assert encode_headers(headers) == block
