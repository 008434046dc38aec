from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import botocore
import pytest
from botocore.config import Config
from botocore.session import Session
from hypothesis import given
from hypothesis import strategies as st

from aiosmrt.errors import ConfigurationError
from aiosmrt.redaction import redact_url
from aiosmrt.settings.endpoints import PARTITIONS, resolve_endpoint, validate_region

BOTOCORE_PARTITIONS: list[dict[str, Any]] = json.loads(
    Path(botocore.__file__).with_name("data").joinpath("partitions.json").read_text()
)["partitions"]
# A partition's "-global" pseudo-region has no SageMaker.
REGIONS = [
    region
    for partition in BOTOCORE_PARTITIONS
    for region in partition["regions"]
    if not region.endswith("-global")
]

Judge = Callable[..., str]


@pytest.fixture(scope="module")
def judge() -> Judge:
    """Give the origin that a request of botocore goes to.

    Not `client.meta.endpoint_url`: that is read from an older list, which is wrong for some
    partitions and which the rule set overrules when a request is made.
    """
    session = Session()
    session.set_credentials("id", "secret")

    def resolve(region: str, *, fips: bool, dual_stack: bool, use_ssl: bool = True) -> str:
        client = session.create_client(
            "sagemaker-runtime",
            region_name=region,
            use_ssl=use_ssl,
            config=Config(
                use_fips_endpoint=fips,
                use_dualstack_endpoint=dual_stack,
                ignore_configured_endpoint_urls=True,
            ),
        )
        url = urlsplit(
            client.generate_presigned_url(
                "invoke_endpoint", Params={"EndpointName": "e", "Body": b""}
            )
        )
        return f"{url.scheme}://{url.netloc}"

    return resolve


def test_every_official_case() -> None:
    folder = os.environ.get("AIOSMRT_VECTORS")
    if not folder:
        pytest.skip("AIOSMRT_VECTORS does not name the folder of test vectors")
    path = Path(folder, "endpoints", "sagemaker-runtime-endpoint-tests-1.json")
    cases = json.loads(path.read_text())["testCases"]
    assert len(cases) == 47
    for case in cases:
        params = case.get("params", {})

        def resolve(params: dict[str, Any] = params) -> str:
            return resolve_endpoint(
                params.get("Region"),
                endpoint_url=params.get("Endpoint"),
                use_fips_endpoint=params.get("UseFIPS", False),
                use_dualstack_endpoint=params.get("UseDualStack", False),
            )

        if "error" in case["expect"]:
            with pytest.raises(ConfigurationError):
                resolve()
        else:
            assert resolve() == case["expect"]["endpoint"]["url"], case["documentation"]


@pytest.mark.newest_botocore
def test_our_partitions_are_the_ones_botocore_knows() -> None:
    ours = {
        partition.name: {
            "regions": partition.regions,
            "dns suffix": partition.dns_suffix,
            "dual-stack suffix": partition.dual_stack_dns_suffix,
            # The table has no columns for these as long as every partition supports both.
            "FIPS": True,
            "dual-stack": True,
        }
        for partition in PARTITIONS
    }
    theirs = {
        partition["outputs"]["name"]: {
            "regions": partition["regionRegex"],
            "dns suffix": partition["outputs"]["dnsSuffix"],
            "dual-stack suffix": partition["outputs"]["dualStackDnsSuffix"],
            "FIPS": partition["outputs"]["supportsFIPS"],
            "dual-stack": partition["outputs"]["supportsDualStack"],
        }
        for partition in BOTOCORE_PARTITIONS
    }
    differences = [
        f"{name}: ours {ours.get(name)}, botocore's {theirs.get(name)}"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    ]
    assert not differences, "\n".join(differences)


@pytest.mark.newest_botocore
def test_every_region_resolves_as_botocore_resolves_it(judge: Judge) -> None:
    assert len(REGIONS) > 40
    for region in [*REGIONS, "eu-unheard-9", "nowhere", "US-EAST-1", "x" * 63]:
        assert resolve_endpoint(region) == judge(region, fips=False, dual_stack=False)


@pytest.mark.newest_botocore
@pytest.mark.parametrize(
    "variant",
    [
        {"fips": True, "dual_stack": False},
        {"fips": False, "dual_stack": True},
        {"fips": True, "dual_stack": True},
    ],
    ids=["fips", "dual-stack", "both"],
)
def test_one_region_of_every_partition_has_botocores_variants(
    judge: Judge, variant: dict[str, bool]
) -> None:
    # The older list is asked first, and has no dual-stack in these: botocore makes no client.
    unknown = {"aws-iso-e", "aws-iso-f"} if variant["dual_stack"] else set()
    for partition in BOTOCORE_PARTITIONS:
        if partition["id"] in unknown:
            continue
        region = next(r for r in partition["regions"] if not r.endswith("-global"))
        for use_ssl in (True, False):
            ours = resolve_endpoint(
                region,
                use_fips_endpoint=variant["fips"],
                use_dualstack_endpoint=variant["dual_stack"],
                use_ssl=use_ssl,
            )
            assert ours == judge(region, **variant, use_ssl=use_ssl)


@pytest.mark.parametrize(
    ("url", "resolved"),
    [
        ("https://example.com", "https://example.com"),
        ("https://example.com/", "https://example.com"),
        ("HTTP://localhost:8080//", "http://localhost:8080"),
        ("http://gateway:80/sagemaker/v1/", "http://gateway:80/sagemaker/v1"),
        ("http://my_model:8080", "http://my_model:8080"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
        ("https://h/a%20b@c", "https://h/a%20b@c"),
    ],
)
def test_a_custom_endpoint_is_used_as_it_is(url: str, resolved: str) -> None:
    assert resolve_endpoint("us-east-1", endpoint_url=url) == resolved
    assert resolve_endpoint(None, endpoint_url=url, use_ssl=False) == resolved


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("", "must begin with http"),
        ("example.com", "must begin with http"),
        ("localhost:8080", "must begin with http"),
        ("ftp://example.com", "must begin with http"),
        ("http://", "no usable host name or port"),
        ("http:///path", "no usable host name or port"),
        ("http://:8080", "no usable host name or port"),
        ("http://-h", "no usable host name or port"),
        ("http://h:", "no usable host name or port"),
        ("http://h:0", "no usable host name or port"),
        ("http://h:x", "no usable host name or port"),
        ("http://h:65536", "no usable host name or port"),
        ("http://[::1", "no usable host name or port"),
        ("http://[::1]x", "no usable host name or port"),
        ("http://h?", "query or a fragment"),
        ("http://h/p?q=1", "query or a fragment"),
        ("http://h#f", "query or a fragment"),
        ("http://h /", "blanks, control"),
        ("http://h\n", "blanks, control"),
        ("http://bücher.example", "blanks, control or non-ASCII"),
    ],
)
def test_a_malformed_custom_endpoint_is_named_with_what_is_wrong(url: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        resolve_endpoint("us-east-1", endpoint_url=url)
    assert repr(redact_url(url)) in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hunter2@h/",
        "https://user:hunter2/x@h",
        "https://hunter2@h?q",
        "user:hunter2@h",
        "http://h/?token=hunter2",
    ],
)
def test_a_password_in_a_url_does_not_get_into_the_error(url: str) -> None:
    for fips in (False, True):
        with pytest.raises(ConfigurationError) as caught:
            resolve_endpoint("us-east-1", endpoint_url=url, use_fips_endpoint=fips)
        assert "hunter2" not in str(caught.value)
        assert "***" in str(caught.value)


@pytest.mark.parametrize("option", ["use_fips_endpoint", "use_dualstack_endpoint"])
def test_a_variant_and_a_custom_endpoint_exclude_each_other(option: str) -> None:
    fips = option == "use_fips_endpoint"
    with pytest.raises(ConfigurationError) as caught:
        resolve_endpoint(
            "us-east-1",
            endpoint_url="https://example.com",
            use_fips_endpoint=fips,
            use_dualstack_endpoint=not fips,
        )
    for word in (option, f"AWS_{option.upper()}", "'https://example.com'", "AWS_ENDPOINT_URL"):
        assert word in str(caught.value)


@pytest.mark.parametrize("region", [None, ""])
def test_a_missing_region_names_every_way_to_give_one(region: str | None) -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve_endpoint(region)
    for way in ("region_name=", "AWS_DEFAULT_REGION", "AWS_REGION", "profile", "~/.aws/config"):
        assert way in str(caught.value)


@pytest.mark.parametrize(
    "region",
    [
        "us east 1",
        "us-east-1.evil.example",
        "-us",
        "us-",
        "123",
        "x" * 64,
        "us-east-1\n",
        "é",
        "a/b",
    ],
)
def test_a_malformed_region_is_refused(region: str) -> None:
    with pytest.raises(ConfigurationError, match="malformed"):
        resolve_endpoint(region)
    with pytest.raises(ConfigurationError, match="malformed"):
        validate_region(region)


@pytest.mark.parametrize("region", ["fips-us-east-1", "us-east-1-fips"])
def test_a_pseudo_region_is_answered_with_what_replaced_it(region: str) -> None:
    with pytest.raises(ConfigurationError, match="'us-east-1' together with use_fips_endpoint"):
        resolve_endpoint(region)


@given(st.text(max_size=20), st.text(alphabet="htp:/@[]%?#.x0 \n-_", max_size=20))
def test_nothing_but_a_configuration_error_comes_out(region: str, rest: str) -> None:
    for url in (None, rest, f"http://{rest}"):
        try:
            resolved = resolve_endpoint(region, endpoint_url=url)
        except ConfigurationError:
            continue
        parts = urlsplit(resolved)
        assert parts.scheme in ("http", "https")
        assert parts.hostname
        assert parts.query == parts.fragment == ""
        assert parts.username is None
        assert not resolved.endswith("/")


def test_botocore_is_not_needed() -> None:
    code = (
        "import sys, aiosmrt.settings.endpoints; print([m for m in sys.modules if 'botocore' in m])"
    )
    # The folder of the package under test comes first, wherever the tests are run from.
    spec = importlib.util.find_spec("aiosmrt")
    assert spec is not None
    assert spec.origin is not None
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(spec.origin).parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
