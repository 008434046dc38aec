from __future__ import annotations

import pytest

from aiosmrt.settings.option_names import check_option_names

KNOWN = ("region_name", "endpoint_url", "timeout", "retry")


def test_known_options_pass() -> None:
    check_option_names(["region_name", "timeout"], KNOWN)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("maxRetries", r"RetryPolicy\(max_attempts=n \+ 1\)"),
        ("maxRedirects", "redirects are never followed"),
        ("clientSideMonitoring", "hooks="),
        ("apiVersions", "a single API version"),
        ("waitFor", "invocation.result"),
        ("s3ForcePathStyle", "an option of S3"),
        ("s3BucketEndpoint", "an option of S3"),
        ("dynamoDbCrc32", "DynamoDB"),
        ("useAccelerateEndpoint", "S3"),
        ("endpointDiscoveryEnabled", "endpoint discovery"),
        ("endpointDiscoverySomething", "endpoint discovery"),
        ("endpointCacheSize", "endpoint discovery"),
        ("hostPrefixEnabled", "host prefixes"),
        ("stsRegionalEndpoints", "STS"),
        ("computeChecksums", "other services"),
        ("convertResponseTypes", "other services"),
        ("xhrAsync", "browsers"),
        ("xhrWithCredentials", "browsers"),
        ("read_timeout", r"Timeout\(first_byte"),
        ("max_pool_connections", "max_connections"),
        ("region", "did you mean 'region_name'"),
        ("regionName", "did you mean 'region_name'"),
        ("endpointurl", "did you mean 'endpoint_url'"),
        ("zzz", "there are endpoint_url, region_name, retry, timeout"),
    ],
)
def test_an_unknown_option_is_explained(name: str, words: str) -> None:
    with pytest.raises(TypeError, match=words) as caught:
        check_option_names([name], KNOWN)
    assert repr(name) in str(caught.value)
