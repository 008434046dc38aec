"""Plain HTTP values, and how little a transport needs to be."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosmrt.http import Delivery, Progress, Request, Response, ResponseHead, Transport, parse_date


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (
            "https://runtime.sagemaker.eu-west-1.amazonaws.com",
            "runtime.sagemaker.eu-west-1.amazonaws.com",
        ),
        ("https://example.org:443", "example.org"),
        ("http://example.org:80", "example.org"),
        ("https://example.org:80", "example.org:80"),
        ("http://example.org:443", "example.org:443"),
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("https://[::1]:443", "[::1]"),
        ("http://[::1]:8443", "[::1]:8443"),
    ],
)
def test_the_host_leaves_the_default_port_out(origin: str, host: str) -> None:
    assert Request("POST", origin, "/", {}).host == host


def test_of_body_and_headers_sizes_and_names_are_shown() -> None:
    request = Request("POST", "http://h", "/", {"x-key": "secret"}, b"secret")
    assert "headers=<x-key>, body=<6 bytes>" in repr(request)
    assert repr(ResponseHead(200, {"x-key": "secret"})) == (
        "ResponseHead(status=200, headers=<x-key>)"
    )


class _Answer:
    def __init__(self, body: bytes) -> None:
        self.head = ResponseHead(200, {})
        self._body = body

    async def receive(self) -> bytes:
        body, self._body = self._body, b""
        return body

    def close(self) -> None:
        self._body = b""


class _Silent:
    def connecting(self, delivery: Delivery) -> None:
        """Say nothing."""

    def writing(self) -> None:
        """Say nothing."""

    def sent(self) -> None:
        """Say nothing."""


@pytest.mark.asyncio
async def test_a_nested_function_is_a_transport() -> None:
    async def send(request: Request, progress: Progress) -> Response:
        progress.sent()
        return _Answer(request.body)

    transport: Transport = send
    response = await transport(Request("POST", "http://h", "/", {}, b"echo"), _Silent())
    assert response.head.status == 200
    assert [await response.receive(), await response.receive()] == [b"echo", b""]


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun, 06 Nov 1994 09:49:37 +0100",
    ],
)
def test_dates(text: str) -> None:
    assert parse_date(text) == datetime.datetime(1994, 11, 6, 8, 49, 37, tzinfo=datetime.UTC)


@given(
    st.text(max_size=40)
    | st.lists(
        st.sampled_from(["Sun", ",", " ", "06", "Nov", "1994", "08:49", ":37", ".", "GMT", "+9999"])
    ).map("".join)
)
def test_what_is_no_date_is_none(text: str) -> None:
    date = parse_date(text)
    assert date is None or date.tzinfo is not None
