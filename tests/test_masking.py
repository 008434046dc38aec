"""Secrets that somebody else's words repeat."""

from __future__ import annotations

import html
import json
import pickle
import random
import string
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiosmrt import masking
from aiosmrt.errors import ServiceError
from aiosmrt.masking import Secrets, mask_named

_CHARACTERS = string.ascii_letters + string.digits + "+/"
_chance = random.Random(7)
# As STS makes them: runs of slashes are usual.
TOKEN = f"IQoJb3JpZ2luX2VjEJ3//////////wEaCXVz{''.join(_chance.choices(_CHARACTERS, k=700))}=="
KEY = "".join(_chance.choices(_CHARACTERS, k=40))
SIGNATURE = "0123456789abcdef" * 4
ATTRIBUTES = 'tenant="seven & eight"'
SECRETS = Secrets((TOKEN, KEY, SIGNATURE), (ATTRIBUTES, "short"))


def _break(text: str) -> str:
    return "\n    ".join(text[start : start + 60] for start in range(0, len(text), 60))


ENCODINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in a URL": lambda text: quote(text, safe=""),
    "in a path": quote,
    "in lower case": lambda text: quote(text, safe="").replace("%2F", "%2f").replace("%2B", "%2b"),
    "in a URL twice": lambda text: quote(quote(text, safe=""), safe=""),
    "in JSON": lambda text: json.dumps(text)[1:-1],
    "in PHP's JSON": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "in numbers of JSON": lambda text: "".join(f"\\u{ord(character):04X}" for character in text),
    "in JSON twice": lambda text: json.dumps(json.dumps(text)[1:-1])[1:-1],
    "in HTML": html.escape,
    "in numbers of XML": lambda text: "".join(f"&#{ord(character)};" for character in text),
    "in numbers of HTML": lambda text: "".join(f"&#x{ord(character):02x};" for character in text),
    "in a literal": lambda text: "".join(f"\\x{ord(character):02x}" for character in text),
    "broken into lines": _break,
    "broken into lines in JSON": lambda text: json.dumps(_break(text))[1:-1],
    "in bytes": lambda text: text.encode().hex(" "),
    "in bytes without blanks": lambda text: text.encode().hex(),
}


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("secret", [TOKEN, KEY, SIGNATURE])
def test_a_secret_is_masked_however_it_is_encoded(name: str, secret: str) -> None:
    shown = SECRETS.mask(f"before it: {ENCODINGS[name](secret)} ; and after")
    assert shown == "before it: **** ; and after"


@pytest.mark.parametrize("name", [name for name in ENCODINGS if "bytes" not in name])
def test_what_people_have_chosen_is_masked_as_a_whole(name: str) -> None:
    encoded = ENCODINGS[name](ATTRIBUTES)
    assert SECRETS.mask(f"Value '{encoded}' is wrong") == "Value '****' is wrong"
    assert SECRETS.mask("a tenant is missing, in short") == "a tenant is missing, in short"


@pytest.mark.parametrize("behind", ["", "…", "'", '"', "'\""])
def test_what_an_excerpt_cuts_is_masked(behind: str) -> None:
    tenant = "tenant=seven-of-nine"
    secrets = Secrets((), (tenant,))
    for size in range(8, len(tenant) + 1):
        text = f"its first bytes: b'<p>{tenant[:size]}{behind}"
        assert secrets.mask(text) == f"its first bytes: b'<p>****{behind}"
    assert secrets.mask("tenant=seven is missing") == "tenant=seven is missing"


@example(19, 15, "in PHP's JSON")
@given(st.integers(0, len(TOKEN) - 15), st.integers(15, 800), st.sampled_from(sorted(ENCODINGS)))
def test_a_part_of_a_secret_is_masked(start: int, size: int, name: str) -> None:
    encoded = ENCODINGS[name](TOKEN[start : start + size])
    assert SECRETS.mask(f"<{encoded}>") == "<****>"


@given(st.text())
def test_what_holds_no_secret_stays_as_it_is(text: str) -> None:
    assert Secrets((TOKEN, KEY)).mask(text) == text
    assert Secrets(("", "a", "1234567"), ("", "x")).mask(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("x-amz-security-token:t\nx-b:c", "x-amz-security-token:****\nx-b:c"),
        ("X-Amz-Security-Token: t, x", "X-Amz-Security-Token: ****, x"),
        ("?X-Amz-Security-Token=a%2Fb&X-Amz-Date=1", "?X-Amz-Security-Token=****&X-Amz-Date=1"),
        ("X-Amz-Security-Token%3Da%2Fb", "X-Amz-Security-Token%3D****"),
        ("{'x-amz-security-token': 'a'}", "{'x-amz-security-token': '****'}"),
        ('{"SessionToken" : "a", "b": 1}', '{"SessionToken" : "****", "b": 1}'),
        (r'"{\"SecretAccessKey\": \"a\"}"', r'"{\"SecretAccessKey\": \"****\"}"'),
        ("<SessionToken>a</SessionToken>", "<SessionToken>****</SessionToken>"),
        ("aws_secret_access_key=a", "aws_secret_access_key=****"),
        ('{"Token":"a","Code":"b"}', '{"Token":"****","Code":"b"}'),
        ("<Token-0>a</Token-0><Code>b</Code>", "<Token-0>****</Token-0><Code>b</Code>"),
        ('{"accessToken": "a"}', '{"accessToken": "****"}'),
        ("refresh_token=a&client_secret=b&c", "refresh_token=****&client_secret=****&c"),
        ('{"password": "a", "b": 1}', '{"password": "****", "b": 1}'),
        ("{'x-api-key': 'a'}", "{'x-api-key': '****'}"),
        ("api_key=a&b", "api_key=****&b"),
        (f"Signature={SIGNATURE}, b", "Signature=****, b"),
        (f"X-Amz-Signature={SIGNATURE}&b", "X-Amz-Signature=****&b"),
        ("Authorization: Bearer a.b.c d", "Authorization: Bearer **** d"),
        ('"authorization": "Basic YTpi"', '"authorization": "Basic ****"'),
    ],
)
def test_what_is_named_as_a_secret_is_masked(text: str, shown: str) -> None:
    assert mask_named(text) == shown
    assert mask_named(shown) == shown
    assert Secrets(()).mask(text) == shown


@settings(max_examples=25)
@given(st.from_regex(masking._NAMED), st.sampled_from([str, str.upper, str.title]))
def test_no_name_goes_unnoticed(text: str, write: Callable[[str], str]) -> None:
    assert masking._may_name(write(text))


@given(st.text(r"%\&#; \n\t\u00a0u0x4142ampltnr"))
def test_it_is_looked_for_where_it_is_found(text: str) -> None:
    plain, begins, ends = masking._decode_with_places(text)
    assert plain == masking._decode(text)
    assert len(plain) == len(begins) == len(ends)
    assert all(begin < end for begin, end in zip(begins, ends, strict=True))


@pytest.mark.parametrize(
    ("said", "shown"),
    [("lorem ipsum " * 20_000, "lorem ipsum " * 20_000), (TOKEN * 10, "****")],
    ids=["a long page", "a long secret"],
)
def test_an_error_holds_the_loop_for_moments_only(said: str, shown: str) -> None:
    error = ServiceError(said, status=400, fields={"message": said, "Message": f"{said} again"})
    secrets = Secrets((TOKEN * 10, KEY), (ATTRIBUTES,))
    began = time.thread_time()  # which a busy machine does not lengthen
    secrets.mask_error(error)
    assert time.thread_time() - began < 0.15
    assert error.message == shown


@pytest.mark.parametrize(
    "text",
    [
        "The request signature we calculated does not match the signature you provided.",
        "The security token included in the request is expired",
        "host;x-amz-date;x-amz-security-token\ne3b0c44298fc1c14",
        "SignedHeaders=host;x-amz-security-token, Credential=AKID/20261129/us-east-1/sagemaker",
        "Authorization header requires 'Signature' parameter.",
        "aws_access_key_id= and aws_secret_access_key= belong together",
        "give aws_secret_access_key=... to the client",
        "Unexpected token: } in JSON at position 3",
        "the token 'a' is none",
        "the password: at least 8 characters",
    ],
)
def test_what_only_speaks_of_secrets_stays_as_it_is(text: str) -> None:
    assert mask_named(text) == SECRETS.mask(text) == text


def test_all_the_words_of_an_error_are_masked() -> None:
    error = ServiceError(
        f"it is {TOKEN}",
        code=f"Wrong{KEY}",
        status=403,
        headers={"x-echo": quote(TOKEN, safe="")},
        fields={"Token-0": TOKEN, "deep": [{"bytes": TOKEN.encode().hex(" ")}], "number": 1},
        advice="look",
    )
    error.add_note(f"with {KEY}")
    error.body = TOKEN.encode()
    error.__cause__ = ValueError(f"because of {TOKEN}", 3)
    SECRETS.mask_error(error)
    assert str(error) == "Wrong**** (HTTP 403): it is ****. look"
    assert error.message == "it is ****"
    assert error.headers == {"x-echo": "****"}
    assert error.fields == {"Token-0": "****", "deep": [{"bytes": "****"}], "number": 1}
    assert error.__notes__ == ["with ****"]
    assert error.__cause__.args == ("because of ****", 3)
    assert error.body == TOKEN.encode()  # bytes are given as they came
    assert pickle.loads(pickle.dumps(error)).message == "it is ****"


def test_names_in_a_document_are_masked_and_what_is_too_deep_is_not_given() -> None:
    deep: object = TOKEN
    for _ in range(5000):
        deep = [deep]
    error = ServiceError("no", fields={TOKEN: 1, "deep": deep, "list": [TOKEN]})
    SECRETS.mask_error(error)
    assert TOKEN not in repr(error.fields)
    assert error.fields["****"] == 1
    assert error.fields["list"] == ["****"]


def test_secrets_are_not_shown_themselves() -> None:
    assert repr(SECRETS) == "<5 secrets>"


@pytest.mark.parametrize("kind", ["sagemaker", "bedrock"])
@pytest.mark.parametrize("encode", [str, quote, lambda text: quote(text, safe="")])
def test_a_bearer_token_is_masked_wherever_it_stands(
    kind: str, encode: Callable[[str], str]
) -> None:
    token = encode(f"{kind}-api-key-c2FnZW1ha2Vy+/aW5n==")
    assert mask_named(f"the key '{token}' is wrong") == f"the key '{kind}-api-key-****' is wrong"
    assert mask_named(f"Authorization: Bearer {token}, x") == "Authorization: Bearer ****, x"
    assert mask_named(f"{kind}-api-key- and Base64") == f"{kind}-api-key- and Base64"
