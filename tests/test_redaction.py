"""What stands for a value that must not be shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from aiosmrt.redaction import Redacted, redact, redact_url, show_url


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "None"),
        (b"secret", "<6 bytes>"),
        (bytearray(b""), "<0 bytes>"),
        ({}, "<>"),
        ({"accept": "secret", "x-key": "secret"}, "<accept, x-key>"),
        ("secret", "<...>"),
        (["secret"], "<...>"),
    ],
)
def test_names_and_sizes_may_be_known(value: object, shown: str) -> None:
    assert redact(value) == shown


def test_a_value_is_carried_and_not_shown() -> None:
    carried = Redacted({"body": b"secret"})
    assert carried.value == {"body": b"secret"}
    assert repr(carried) == "<Redacted dict: body>"
    # Or it would be looked into, or cut to length.
    assert not isinstance(carried, Mapping | Sequence | str | bytes)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.com:8080/a/b", "https://example.com:8080/a/b"),
        ("http://user:secret@host:3128", "http://****@host:3128"),
        ("http://secret@host", "http://****@host"),
        ("http://user:se/cr@et@host/x", "http://****@host/x"),
        ("user:secret@host", "****@host"),
        ("http:user:secret@host", "****@host"),
        ("http://user:sec\nret@host", "http://****@host"),
        ("https://host/x?token=secret", "https://host/x?****"),
        ("https://host#secret\nsecret", "https://host#****"),
        ("https://host?", "https://host?"),
        ("", ""),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert redact_url(url) == shown
    assert show_url(url) == repr(shown)


def test_what_is_no_url_is_shown_as_it_is() -> None:
    assert show_url(None) == "None"
    assert show_url(3) == "3"
