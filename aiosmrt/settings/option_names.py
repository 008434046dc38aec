"""The names of options: ours, and those that people bring along from elsewhere. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from aiosmrt.service import spell

__all__ = ["check_option_names"]

_REDIRECTS = "redirects are never followed: an answer that is one is an UnexpectedResponse"
_BROWSER = "it is an option of browsers"


# What other SDKs call an option, and what it is here. The names are those of AWS.Config in the
# JavaScript SDK v2 and of botocore.config.Config.
_ELSEWHERE = {
    "accessKeyId": "it is aws_access_key_id here",
    "agent": "connections are pooled by max_connections, proxy and session here",
    "apiVersions": "there is a single API version; api_version names it",
    "clientSideMonitoring": "hooks= tell what monitoring would",
    "computeChecksums": "it is an option of other services; the event stream is always verified",
    "config": "pass the Config as the first argument, by position",
    "connectTimeout": "it is Timeout(connect=seconds) here",
    "connect_timeout": "it is Timeout(connect=seconds) here",
    "convertResponseTypes": "it is an option of other services; members have their types here",
    "correctClockSkew": "it is correct_clock_skew here",
    "credentialProvider": "it is credentials= here: an object or an async function",
    "customBackoff": "it is RetryPolicy(backoff=...) here, in seconds",
    "customUserAgent": "it is user_agent_extra here",
    "defineService": "there is one service here",
    "dynamoDbCrc32": "it is an option of DynamoDB",
    "endpoint": "it is endpoint_url here",
    "endpointCacheSize": "it is an option of services with endpoint discovery",
    "endpointDiscoveryEnabled": "it is an option of services with endpoint discovery",
    "hostPrefixEnabled": "it is an option of services with host prefixes",
    "httpOptions": "its members are proxy, max_connections, session, verify and Timeout(...) here",
    "inject_host_prefix": "it is an option of services with host prefixes",
    "logger": "the standard logger `aiosmrt` is used; hooks= tell more",
    "maxRedirects": _REDIRECTS,
    "maxRetries": "it is RetryPolicy(max_attempts=n + 1) here",
    "max_pool_connections": "it is max_connections here",
    "paramValidation": "it is parameter_validation here",
    "proxies": "it is proxy= here, one URL",
    "proxies_config": "it is proxy_verify= and proxy_client_cert= here",
    "read_timeout": "it is Timeout(first_byte=seconds, idle=seconds) here",
    "retries": "it is RetryPolicy(max_attempts=attempts) here",
    "retryDelayOptions": "it is RetryPolicy(base_delay=seconds, backoff=...) here",
    "retry_mode": "it is RetryPolicy(mode=...) here",
    "s3": "it is an option of S3",
    "secretAccessKey": "it is aws_secret_access_key here",
    "sessionToken": "it is aws_session_token here",
    "signatureCache": "the signing key is always cached here",
    "signatureVersion": "it is signature_version here",
    "sslEnabled": "it is use_ssl here",
    "stsRegionalEndpoints": "it is an option of STS; botocore reads it from the profile",
    "systemClockOffset": "it is system_clock_offset here, in seconds",
    "tcp_keepalive": "keep-alive probes are always on here",
    "useAccelerateEndpoint": "it is an option of S3",
    "useDualstackEndpoint": "it is use_dualstack_endpoint here",
    "useFipsEndpoint": "it is use_fips_endpoint here",
    "user_agent": "it is user_agent_extra here",
    "waitFor": "`await invocation.result()` waits for an output",
}
_PREFIXES = {
    "s3": "it is an option of S3",
    "dynamoDb": "it is an option of DynamoDB",
    "endpointDiscovery": "it is an option of services with endpoint discovery",
    "xhr": _BROWSER,
}


def check_option_names(names: Iterable[str], known: Collection[str]) -> None:
    """Refuse an option that there is not: nothing is ignored silently.

    Raises:
        TypeError: saying whose option it is, what it is called here, or which name is near.
    """
    for name in names:
        if name not in known:
            raise TypeError(f"there is no client option {name!r}: {_explain(name, known)}")


def _explain(name: str, known: Collection[str]) -> str:
    if name in _ELSEWHERE:
        return _ELSEWHERE[name]
    for prefix, whose in _PREFIXES.items():
        if name.startswith(prefix):
            return whose
    import difflib  # noqa: PLC0415 - start-up time

    near = difflib.get_close_matches(spell(name), known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}"
