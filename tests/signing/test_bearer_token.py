"""Bearer tokens, byte for byte as AWS's generator makes them: by botocore's `SigV4QueryAuth`."""

from __future__ import annotations

import base64
import copy
import datetime
import pickle
import string
from typing import Any
from unittest import mock
from urllib.parse import parse_qs

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosmrt.config import Credentials
from aiosmrt.errors import ParameterError
from aiosmrt.models import BearerToken
from aiosmrt.signing.bearer_token import check_expires_in, make_bearer_token

NOW = datetime.datetime(2026, 11, 20, 12, 36, 7, 999_999, tzinfo=datetime.UTC)
PREFIX = "sagemaker-api-key-"

# What a key can consist of: the rest is refused where keys are found.
_printable = st.text(string.printable[:95], min_size=1, max_size=60)


def _judge(credentials: Credentials, region: str, now: datetime.datetime, expires_in: int) -> str:
    """Do what `sagemaker.core.token_generator` does, with its constants."""
    host = "sagemaker.amazonaws.com"
    request = botocore.awsrequest.AWSRequest(
        method="POST",
        url=f"https://{host}/",
        headers={"host": host},
        params={"Action": "CallWithBearerToken"},
    )
    keys = botocore.credentials.Credentials(
        credentials.access_key_id, credentials.secret_access_key, credentials.session_token
    )
    auth = botocore.auth.SigV4QueryAuth(keys, "sagemaker", region, expires=expires_in)
    with mock.patch("botocore.auth.get_current_datetime", return_value=now):
        auth.add_auth(request)
    url = request.url.removeprefix("https://") + "&Version=1"
    return PREFIX + base64.b64encode(url.encode()).decode()


@pytest.mark.newest_botocore
@given(
    key_id=_printable,
    secret=_printable,
    session_token=st.none() | _printable,
    region=st.sampled_from(["us-east-1", "cn-north-1", "us-gov-west-1", "eusc-de-east-1", "xx-9"]),
    second=st.integers(10**8, 7 * 10**9),
    expires_in=st.integers(1, 43_200),
)
def test_a_token_is_byte_for_byte_that_of_awss_generator(
    *,
    key_id: str,
    secret: str,
    session_token: str | None,
    region: str,
    second: int,
    expires_in: int,
) -> None:
    credentials = Credentials(key_id, secret, session_token)
    now = datetime.datetime.fromtimestamp(second, datetime.UTC)
    made = make_bearer_token(credentials, region, now, expires_in)
    assert made == _judge(credentials, region, now, expires_in)


def test_a_token_begins_in_utc_and_ends_when_it_says() -> None:
    elsewhere = NOW.astimezone(datetime.timezone(datetime.timedelta(hours=-9)))
    token = make_bearer_token(Credentials("a", "b"), "us-east-1", elsewhere, 900)
    text = base64.b64decode(token.removeprefix(PREFIX)).decode()
    fields = parse_qs(text.partition("?")[2])
    assert fields["X-Amz-Date"] == ["20261120T123607Z"]
    assert fields["X-Amz-Expires"] == ["900"]
    assert token.expires_at == datetime.datetime(2026, 11, 20, 12, 51, 7, tzinfo=datetime.UTC)


def test_an_empty_session_token_is_none() -> None:
    made = [
        make_bearer_token(Credentials("a", "b", token), "us-east-1", NOW, 1) for token in (None, "")
    ]
    assert made[0] == made[1]


def test_a_token_is_text_and_does_not_show_itself() -> None:
    token = make_bearer_token(Credentials("a", "b"), "us-east-1", NOW, 900)
    assert isinstance(token, str)
    assert type(f"{token}") is type(str(token)) is str
    assert f"Bearer {token}" == "Bearer " + token
    assert repr(token) == "<BearerToken until 2026-11-20T12:51:07Z>"
    assert repr({"Authorization": token}).count(PREFIX) == 0


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))]
)
def test_a_copy_of_a_token_is_one(again: Any) -> None:
    token = make_bearer_token(Credentials("a", "b"), "us-east-1", NOW, 900)
    copied = again(token)
    assert type(copied) is BearerToken
    assert (copied, copied.expires_at) == (token, token.expires_at)


@pytest.mark.parametrize("seconds", [1, 900, 43_200])
def test_a_life_that_there_can_be(seconds: int) -> None:
    check_expires_in(seconds)


@pytest.mark.parametrize("seconds", [0, -1, 43_201, 900.0, True, "900", None])
def test_a_life_that_there_cannot_be_is_refused_by_name(seconds: object) -> None:
    with pytest.raises(ParameterError, match=r"^expires_in=.*1 to 43200"):
        check_expires_in(seconds)
