"""What a client can be told, and what it cannot."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path
from typing import Any

import attrs
import botocore
import pytest

from aiosmrt.config import UNSIGNED, Config, Credentials, Timeout
from aiosmrt.errors import ConfigurationError


def _configure(name: str, value: object) -> Config:
    options: dict[str, Any] = {name: value}
    return Config(**options)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("region_name", 5, "a str or None, not int"),
        ("endpoint_url", b"http://a", "a str or None, not bytes"),
        ("profile_name", ["a"], "a str or None, not list"),
        ("s3_endpoint_url", 1, "a str or None, not int"),
        ("max_connections", 0, "an int of 1 or more"),
        ("max_connections", True, "an int of 1 or more"),
        ("max_connections", "9", "an int of 1 or more"),
        ("keep_alive", 0, "keep_alive=0: seconds above 0"),
        ("max_connection_age", "1h", "max_connection_age='1h': seconds above 0"),
        ("signature_version", "v2", "'v4' only"),
        ("signature_version", "v3", "UNSIGNED"),
        ("api_version", "2016-01-01", "'2017-05-13'"),
        ("proxy", "proxy:3128", "'http://user:password@host:3128'"),
        ("proxy", 3128, "'http://user:password@host:3128'"),
        ("system_clock_offset", "soon", "seconds"),
        ("system_clock_offset", True, "seconds"),
        ("system_clock_offset", float("nan"), "seconds"),
        ("system_clock_offset", 1e12, "seconds"),
        ("correct_clock_skew", "yes", "True or False"),
        ("use_ssl", 1, "True or False"),
        ("verify", 1.5, "a CA bundle"),
        ("client_cert", ("only",), "a PEM file"),
        ("client_cert", 7, "a PEM file"),
        ("proxy_verify", 7, "the path of a CA bundle"),
        ("proxy_client_cert", 7, "a PEM file"),
        ("params", [1], "a dict"),
        ("headers", "a: b", "a dict"),
        ("proxy_headers", 7, "a dict"),
        ("retry", 3, "a RetryPolicy"),
        ("user_agent_extra", "a\r\nb: c", "printable ASCII"),
        ("user_agent_appid", 7, "printable ASCII"),
        ("s3_input_prefix", "bucket", "s3://"),
        ("s3_put_headers", ["x-a"], "a dict"),
        ("s3_expected_bucket_owner", "1234", "12 digits"),
        ("s3_expected_bucket_owner", 123456789012, "12 digits"),
        ("poll_interval", 0, "poll_interval"),
        ("max_poll_interval", -1, "max_poll_interval"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(name: str, value: object, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        _configure(name, value)
    assert words in str(caught.value)


def test_a_proxys_password_is_in_no_text() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Config(proxy="socks5://me:my-password@host")
    assert "my-password" not in str(caught.value)


@pytest.mark.parametrize("name", ["endpoint_url", "s3_endpoint_url", "proxy"])
def test_an_address_is_shown_without_its_password(name: str) -> None:
    shown = repr(_configure(name, "http://me:my-password@host:80/x"))
    assert f"{name}='http://****@host:80/x'" in shown
    assert "my-password" not in shown


@pytest.mark.parametrize("name", ["params", "headers", "proxy_headers", "s3_put_headers"])
def test_of_what_may_be_confidential_only_names_are_shown(name: str) -> None:
    shown = repr(_configure(name, {"custom_attributes": "my-password"}))
    assert f"{name}=<custom_attributes>" in shown
    assert "my-password" not in shown


@pytest.mark.parametrize(
    "name", ["connect", "write", "first_byte", "idle", "slot", "total", "credentials"]
)
@pytest.mark.parametrize("value", [0, -1, True, "1", float("nan")])
def test_a_time_limit_is_a_positive_number(name: str, value: object) -> None:
    limits: dict[str, Any] = {name: value}
    with pytest.raises(ConfigurationError, match=name):
        Timeout(**limits)


def test_the_end_of_credentials_has_a_zone() -> None:
    zone = datetime.timezone(datetime.timedelta(hours=2))
    end = datetime.datetime(2030, 1, 1, tzinfo=zone)
    assert Credentials("a", "b", "t", end).expires_at is end
    naive = end.replace(tzinfo=None)
    with pytest.raises(ConfigurationError, match=r"2030, 1, 1, 0, 0\)\) has no zone"):
        Credentials("a", "b", "t", naive)
    with pytest.raises(ConfigurationError, match="has no zone"):
        attrs.evolve(Credentials("a", "b", "t", end), expires_at=naive)


@pytest.mark.parametrize("end", ["2030-01-01T00:00:00Z", 1893456000, datetime.date(2030, 1, 1)])
def test_the_end_of_credentials_is_a_datetime(end: Any) -> None:
    kind = type(end).__name__
    with pytest.raises(ConfigurationError, match=f"expires_at.* must be .*, not {kind}") as caught:
        Credentials("a", "not-to-be-shown", expires_at=end)
    assert str(end) not in str(caught.value)


def test_what_is_accepted_in_several_forms() -> None:
    assert Config(signature_version=botocore.UNSIGNED).signature_version is UNSIGNED
    assert Config(signature_version=UNSIGNED).signature_version is UNSIGNED
    assert Config(signature_version="v4").signature_version == "v4"
    assert Config(timeout=9).timeout == Timeout(total=9)
    assert Config(timeout=None).timeout == Timeout()
    assert _configure("verify", Path("/a/bundle")).verify == "/a/bundle"
    assert _configure("client_cert", (Path("/c"), "/k")).client_cert == ("/c", "/k")
    assert _configure("client_cert", Path("/c")).client_cert == "/c"
    context = ssl.create_default_context()
    assert Config(verify=context).verify is context
    assert Config(api_version="latest").api_version == "latest"
    assert Config(system_clock_offset=-60).system_clock_offset == -60


@pytest.mark.parametrize(
    "name", ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"]
)
def test_a_secret_of_the_wrong_type_is_not_shown(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} must be a str") as caught:
        _configure(name, b"not-to-be-shown")
    assert "shown" not in str(caught.value)
