from __future__ import annotations

import base64
import datetime
from unittest import mock

import attrs
import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest

from aiosmrt.config import Credentials
from aiosmrt.errors import ServiceError
from aiosmrt.local.authorization import SAGEMAKER_SIGNING
from aiosmrt.local.bearer_token import check_bearer_token

if not hasattr(botocore.auth, "get_current_datetime"):
    pytest.skip("this botocore is too old a judge", allow_module_level=True)

PAIR = Credentials("local", "local-secret")
NOW = datetime.datetime(2026, 11, 20, 12, 36, tzinfo=datetime.UTC)
PREFIX = "sagemaker-api-key-"


def _make(
    *,
    pair: Credentials = PAIR,
    service: str = "sagemaker",
    region: str = "eu-central-1",
    expires: int = 900,
    action: str = "CallWithBearerToken",
    host: str = "sagemaker.amazonaws.com",
) -> str:
    request = botocore.awsrequest.AWSRequest(
        "POST", f"https://{host}/", headers={"host": host}, params={"Action": action}
    )
    keys = botocore.credentials.Credentials(
        pair.access_key_id, pair.secret_access_key, pair.session_token
    )
    with mock.patch("botocore.auth.get_current_datetime", return_value=NOW):
        botocore.auth.SigV4QueryAuth(keys, service, region, expires=expires).add_auth(request)
    return _encode(request.url.removeprefix("https://") + "&Version=1")


def _encode(text: str) -> str:
    return PREFIX + base64.b64encode(text.encode()).decode()


def _check(
    authorization: str | None, *, later: float = 0.0, region: str | None = None
) -> tuple[int, str] | None:
    """Give the status and the words of a refusal."""
    headers = {} if authorization is None else {"authorization": authorization}
    now = NOW + datetime.timedelta(seconds=later)
    try:
        check_bearer_token(headers, PAIR, now, attrs.evolve(SAGEMAKER_SIGNING, region=region))
    except ServiceError as error:
        return error.status, error.message
    return None


def test_what_botocore_makes_holds_for_its_life() -> None:
    for token in (_make(), _make(pair=attrs.evolve(PAIR, session_token="a/b+c==&d e"))):
        for later in (-299, 0, 900):
            assert _check(f"Bearer {token}", later=later) is None
        assert _check(f"bearer   {token}", region="eu-central-1") is None


@pytest.mark.parametrize(
    ("authorization", "status", "said"),
    [
        (None, 401, "Missing Authentication Token"),
        ("Bearer ", 401, "Missing Authentication Token"),
        ("Basic bG9jYWw=", 401, "Missing Authentication Token"),
        ("AWS4-HMAC-SHA256 Credential=local/...", 403, "takes a bearer token; SigV4 is for"),
        ("Bearer sk-1234", 403, "A bearer token is sagemaker-api-key-"),
        ("Bearer x" + _make(), 403, "A bearer token is sagemaker-api-key-"),
        ("Bearer " + _make() + "?", 403, "A bearer token is sagemaker-api-key-"),
        ("Bearer " + PREFIX + "/w==", 403, "A bearer token is sagemaker-api-key-"),
        ("Bearer " + _encode("sagemaker.amazonaws.com/?a=b"), 403, "A bearer token is"),
        ("Bearer " + _make(host="bedrock.amazonaws.com"), 403, "A bearer token is"),
        ("Bearer " + _make(action="DescribeEndpoint"), 403, "for another action"),
        ("Bearer " + _make(expires=43_201), 403, "for more than 43200 seconds"),
        ("Bearer " + _make(service="bedrock"), 403, "scoped to correct service"),
        ("Bearer " + _make(pair=Credentials("other", "s")), 403, "knows the access key id 'local'"),
        ("Bearer " + _make(pair=Credentials("local", "s")), 403, "does not match the signature"),
    ],
)
def test_what_is_no_token_is_refused(authorization: str | None, status: int, said: str) -> None:
    refusal = _check(authorization)
    assert refusal is not None
    assert refusal[0] == status
    assert said in refusal[1]


@pytest.mark.parametrize(("later", "said"), [(901, "has expired"), (-301, "not yet current")])
def test_a_token_holds_from_its_beginning_to_its_end(later: float, said: str) -> None:
    refusal = _check(f"Bearer {_make()}", later=later)
    assert refusal is not None
    assert refusal[0] == 403
    assert said in refusal[1]


def test_a_token_of_another_region_is_refused_where_there_is_one() -> None:
    refusal = _check(f"Bearer {_make()}", region="us-east-1")
    assert refusal is not None
    assert "'us-east-1', not 'eu-central-1'" in refusal[1]


@pytest.mark.parametrize("place", ["X-Amz-Expires=900", "X-Amz-Date=2026", "eu-central-1"])
def test_a_change_of_a_token_is_noticed(place: str) -> None:
    text = base64.b64decode(_make().removeprefix(PREFIX)).decode()
    assert place in text
    changed = text.replace(place, place[:-1] + ("5" if place[-1] != "1" else "2"))
    assert _check(f"Bearer {_encode(changed)}") is not None
