from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosmrt.transport.content_coding import (
    ContentDecoder,
    IncompleteContent,
    MalformedContent,
    read_codings,
)

TEXT = b'{"generated_text": "once upon a time"}' * 20


def _deflate_raw(data: bytes) -> bytes:
    squeezer = zlib.compressobj(wbits=-15)
    return squeezer.compress(data) + squeezer.flush()


SQUEEZED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "zlib": ("deflate", zlib.compress),
    "raw deflate": ("deflate", _deflate_raw),
}


def _decode(codings: Iterable[str], chunks: Iterable[bytes]) -> bytes:
    decoded = bytearray()
    _decode_into(decoded, codings, chunks)
    return bytes(decoded)


def _decode_into(decoded: bytearray, codings: Iterable[str], chunks: Iterable[bytes]) -> None:
    decoder = ContentDecoder(tuple(codings))
    for chunk in chunks:
        decoder.receive_data(chunk)
        while not decoder.dry:
            piece = decoder.take()
            assert len(piece) <= 1 << 18
            decoded += piece
    decoder.receive_eof()


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@pytest.mark.parametrize(
    ("value", "codings"),
    [
        (None, ()),
        ("", ()),
        (" , ", ()),
        ("identity", ()),
        ("Identity", ()),
        ("utf-8", ()),
        ("UTF-8", ()),
        ("none", ()),
        ("binary", ()),
        ("8bit", ()),
        ("base64", ()),
        ("aws-chunked", ()),
        ("gzip", ("gzip",)),
        ("GZIP", ("gzip",)),
        ("x-gzip", ("gzip",)),
        (" deflate ", ("deflate",)),
        ("utf-8, gzip", ("gzip",)),
        ("aws-chunked,gzip", ("gzip",)),
        ("gzip, identity", ("gzip",)),
        ('"gzip"', ("gzip",)),
        ("gzip;q=1", ("gzip",)),
        ("deflate, gzip", ("deflate", "gzip")),
        ("br", ("br",)),
        ("gzip, zstd", ("gzip", "zstd")),
        ("compress", ("compress",)),
    ],
)
def test_a_coding_that_names_no_compression_counts_for_nothing(
    value: str | None, codings: tuple[str, ...]
) -> None:
    assert read_codings({} if value is None else {"content-encoding": value}) == codings


@pytest.mark.parametrize("kind", SQUEEZED)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1 << 20])
def test_what_was_compressed_is_given_in_any_split(kind: str, size: int) -> None:
    coding, squeeze = SQUEEZED[kind]
    assert _decode([coding], _cut(squeeze(TEXT), size)) == TEXT
    assert _decode([coding], _cut(squeeze(b""), size)) == b""


@given(
    st.lists(st.sampled_from(sorted(SQUEEZED)), min_size=1, max_size=5),
    st.binary(max_size=2000),
    st.integers(1, 500),
)
def test_codings_are_taken_off_in_turn(kinds: list[str], data: bytes, size: int) -> None:
    squeezed = data
    for kind in kinds:
        squeezed = SQUEEZED[kind][1](squeezed)
    assert _decode([SQUEEZED[kind][0] for kind in kinds], _cut(squeezed, size)) == data


@given(st.lists(st.sampled_from(["gzip", "deflate"]), min_size=1, max_size=3), st.binary())
def test_nothing_but_its_own_error_comes_out(codings: list[str], data: bytes) -> None:
    for begun in (data, b"\x1f\x8b\x08" + data, gzip.compress(b"x") + data, b"\x78\x9c" + data):
        with contextlib.suppress(MalformedContent):
            _decode(codings, _cut(begun, 3))


@pytest.mark.parametrize("size", [1, 5, 1 << 20])
def test_members_behind_each_other_are_one_body(size: int) -> None:
    members = gzip.compress(b"a") + gzip.compress(b"") + gzip.compress(b"b" * 70_000)
    assert _decode(["gzip"], _cut(members, size)) == b"a" + b"b" * 70_000
    assert _decode(["gzip"], _cut(members + bytes(700), size)) == b"a" + b"b" * 70_000


@pytest.mark.parametrize("size", [1, 1 << 20])
@pytest.mark.parametrize("kind", SQUEEZED)
def test_a_body_that_stops_before_its_end_is_incomplete(kind: str, size: int) -> None:
    coding, squeeze = SQUEEZED[kind]
    squeezed = squeeze(TEXT)
    for end in range(1, len(squeezed)):
        with pytest.raises(IncompleteContent, match=f"{coding} stops before its end"):
            _decode([coding], _cut(squeezed[:end], size))
    assert _decode([coding], []) == b""


def test_a_second_member_that_stops_before_its_end_is_incomplete() -> None:
    with pytest.raises(IncompleteContent):
        _decode(["gzip"], [gzip.compress(b"a") + gzip.compress(b"b")[:-1]])
    with pytest.raises(IncompleteContent):
        _decode(["gzip"], [gzip.compress(b"a") + b"\x1f"])


@pytest.mark.parametrize("size", [1, 1 << 20])
@pytest.mark.parametrize("kind", SQUEEZED)
def test_bytes_behind_the_end_are_a_fault(kind: str, size: int) -> None:
    coding, squeeze = SQUEEZED[kind]
    with pytest.raises(MalformedContent):
        _decode([coding], _cut(squeeze(TEXT) + b"<html>", size))


@pytest.mark.parametrize("body", [b"<html>", b'{"ok": true}', b"\x1f\x8b" + bytes(20)])
def test_what_was_not_compressed_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedContent, match="it is no gzip"):
        _decode(["gzip"], [body])
    with pytest.raises(MalformedContent):
        _decode(["deflate"], [body])


def test_a_damaged_body_is_malformed() -> None:
    squeezed = bytearray(gzip.compress(TEXT))
    squeezed[-6] ^= 1  # of the checksum
    with pytest.raises(MalformedContent):
        _decode(["gzip"], [bytes(squeezed)])


@pytest.mark.parametrize("size", [1, 50, 1 << 20])
@pytest.mark.parametrize("codings", [1, 2])
def test_what_is_sound_before_a_fault_is_given_first(codings: int, size: int) -> None:
    body = b"".join(f"{number} times upon\n".encode() for number in range(3000))
    for _ in range(codings):
        squeezer = zlib.compressobj(wbits=31)
        body = squeezer.compress(body) + squeezer.flush(zlib.Z_SYNC_FLUSH)
    decoded = bytearray()
    damaged = _cut(body + b"\xff" * 100, size)
    with pytest.raises(MalformedContent, match="it is no gzip"):
        _decode_into(decoded, ["gzip"] * codings, damaged)
    assert decoded.endswith(b"\n2999 times upon\n")


def test_one_step_is_small_however_well_it_was_compressed() -> None:
    decoder = ContentDecoder(["gzip", "gzip"])
    decoder.receive_data(gzip.compress(gzip.compress(bytes(1 << 26))))
    sizes = []
    while not decoder.dry:
        sizes.append(len(decoder.take()))
    decoder.receive_eof()
    assert sum(sizes) == 1 << 26
    assert max(sizes) == 1 << 18


def test_a_step_ends_also_where_nothing_comes_of_it() -> None:
    """Members that hold nothing are as many as fit; each take looks at one."""
    decoder = ContentDecoder(["gzip"])
    decoder.receive_data(gzip.compress(b"") * 5000)
    takes = 0
    while not decoder.dry:
        assert decoder.take() == b""
        takes += 1
    assert takes >= 5000


@pytest.mark.parametrize("codings", [["br"], ["gzip", "zstd"], ["compress", "gzip"]])
def test_a_coding_that_cannot_be_decoded_is_named(codings: list[str]) -> None:
    with pytest.raises(MalformedContent, match=r"'(br|zstd|compress)' cannot be decoded"):
        ContentDecoder(codings)


def test_codings_without_end_are_refused() -> None:
    with pytest.raises(MalformedContent, match="too many"):
        ContentDecoder(["gzip"] * 6)
