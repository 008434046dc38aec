from __future__ import annotations

import pytest

from aiosmrt.transport.proxies import bypasses_proxy, find_proxy

URL = "https://runtime.sagemaker.us-east-1.amazonaws.com/prefix"


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://p:1"}, ("http://p:1", "HTTPS_PROXY")),
        ({"https_proxy": "http://q:1", "HTTPS_PROXY": "http://p:1"}, ("http://q:1", "https_proxy")),
        ({"https_proxy": "", "HTTPS_PROXY": "p:1"}, ("http://p:1", "HTTPS_PROXY")),
        ({"HTTP_PROXY": "http://p:1"}, None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "other, .amazonaws.com"}, None),
        ({"HTTPS_PROXY": "http://p:1", "no_proxy": "x", "NO_PROXY": "*"}, ("http://p:1",) * 1),
    ],
)
def test_the_environment_names_a_proxy(
    environ: dict[str, str], found: tuple[str, ...] | None
) -> None:
    proxy = find_proxy(URL, environ)
    assert (proxy and proxy[: len(found or ())]) == found


def test_plain_http_has_a_proxy_of_its_own() -> None:
    assert find_proxy("http://h:8080", {"HTTP_PROXY": "http://p:1"}) == ("http://p:1", "HTTP_PROXY")
    assert find_proxy("http://h:8080", {"HTTPS_PROXY": "http://p:1"}) is None


def test_a_cgi_script_does_not_take_its_callers_header_for_a_proxy() -> None:
    environ = {"HTTP_PROXY": "http://evil:1", "REQUEST_METHOD": "GET"}
    assert find_proxy("http://h", environ) is None
    assert find_proxy("http://h", environ | {"http_proxy": "http://p:1"}) is not None


@pytest.mark.parametrize(
    ("host", "port", "no_proxy", "bypassed"),
    [
        ("example.com", None, "", False),
        ("example.com", None, "*", True),
        ("example.com", None, "a, example.com ,b", True),
        ("Example.COM", None, "EXAMPLE.com", True),
        ("api.example.com", None, "example.com", True),
        ("api.example.com", None, ".example.com", True),
        ("api.example.com", None, "*.example.com", True),
        ("badexample.com", None, "example.com", False),
        ("example.com", 443, "example.com:443", True),
        ("example.com", 8443, "example.com:443", False),
        ("10.1.2.3", None, "10.0.0.0/8", True),
        ("11.1.2.3", None, "10.0.0.0/8", False),
        ("10.1.2.3", None, "10.9.9.9/8", True),
        ("10.1.2.3", None, "10.1.2.3", True),
        ("10.1.2.3", 80, "10.1.2.3:80", True),
        ("10.1.2.3", 81, "10.1.2.3:80", False),
        ("10.1.2.3", None, "example.com", False),
        ("::1", None, "[::1]", True),
        ("::1", 80, "[::1]:80", True),
        ("fd00::1", None, "fd00::/8", True),
        ("example.com", None, "10.0.0.0/8", False),
        ("example.com", None, ",.,", False),
    ],
)
def test_no_proxy(host: str, port: int | None, no_proxy: str, *, bypassed: bool) -> None:
    assert bypasses_proxy(host, port, no_proxy) is bypassed
