"""Region, FIPS, dual-stack, custom endpoint → URL.

The rules are those of the service's own endpoint rule set (`sagemaker-runtime/2017-05-13/
endpoint-rule-set-1.json` in botocore) and of the SDKs' list of partitions (`partitions.json`
there). Both are small and seldom change, and importing botocore to read them costs 100 to 300 ms:
they are written out here, and the tests compare them with botocore's.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import attrs

from aiosmrt.errors import ConfigurationError
from aiosmrt.redaction import show_url

__all__ = ["PARTITIONS", "Partition", "resolve_endpoint", "validate_region"]


@attrs.frozen(eq=False, repr=False)
class Partition:
    """A part of AWS with accounts and host names of its own; each has FIPS and dual-stack hosts."""

    name: str
    regions: str  # a regular expression, also for regions that open after this release
    dns_suffix: str
    dual_stack_dns_suffix: str
    fips_host: str = "runtime.sagemaker-fips"  # what precedes the region, dual-stack aside


PARTITIONS = (
    Partition(
        "aws",
        r"^(us|eu|ap|sa|ca|me|af|il|mx)\-\w+\-\d+$",
        "amazonaws.com",
        "api.aws",
        fips_host="runtime-fips.sagemaker",
    ),
    Partition("aws-cn", r"^cn\-\w+\-\d+$", "amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    Partition("aws-eusc", r"^eusc\-(de)\-\w+\-\d+$", "amazonaws.eu", "api.amazonwebservices.eu"),
    Partition("aws-iso", r"^us\-iso\-\w+\-\d+$", "c2s.ic.gov", "api.aws.ic.gov"),
    Partition("aws-iso-b", r"^us\-isob\-\w+\-\d+$", "sc2s.sgov.gov", "api.aws.scloud"),
    Partition("aws-iso-e", r"^eu\-isoe\-\w+\-\d+$", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
    Partition("aws-iso-f", r"^us\-isof\-\w+\-\d+$", "csp.hci.ic.gov", "api.aws.hci.ic.gov"),
    Partition(
        "aws-us-gov",
        r"^us\-gov\-\w+\-\d+$",
        "amazonaws.com",
        "api.aws",
        fips_host="runtime.sagemaker",
    ),
)

_LABEL = 63  # characters of a host label, at most
# A host name (container networks have underscores in theirs) or an IPv6 address, and a port.
# As text: compiling it would take its time whenever the package is imported.
_NETLOC = r"([A-Za-z0-9_][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?"


def resolve_endpoint(
    region_name: str | None,
    *,
    endpoint_url: str | None = None,
    use_fips_endpoint: bool = False,
    use_dualstack_endpoint: bool = False,
    use_ssl: bool = True,
) -> str:
    """Give the URL that requests go to: scheme, host, port and path prefix, no slash at its end.

    A custom `endpoint_url` answers alone, without a region and whatever `use_ssl` says, but not
    together with FIPS or dual-stack, which choose a host themselves. A region that no partition
    knows is taken for a new one of the partition `aws`.

    Raises `ConfigurationError` for a missing or malformed region, a malformed URL, or FIPS or
    dual-stack together with a URL.
    """
    if endpoint_url is not None:
        for option, chosen in (
            ("use_fips_endpoint", use_fips_endpoint),
            ("use_dualstack_endpoint", use_dualstack_endpoint),
        ):
            if chosen:
                raise ConfigurationError(
                    f"{option} cannot be combined with the custom endpoint "
                    f"{show_url(endpoint_url)}, which already names the host. Either unset "
                    f"{option} (the option, AWS_{option.upper()}, the profile's {option}) or unset "
                    f"the custom endpoint (endpoint_url, AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME, "
                    f"AWS_ENDPOINT_URL, the profile's endpoint_url)."
                )
        return _validate_url(endpoint_url)
    region = validate_region(region_name)
    partition = next((p for p in PARTITIONS if re.match(p.regions, region)), PARTITIONS[0])
    suffix = partition.dual_stack_dns_suffix if use_dualstack_endpoint else partition.dns_suffix
    if not use_fips_endpoint:
        host = "runtime.sagemaker"
    elif use_dualstack_endpoint:
        host = "runtime.sagemaker-fips"
    else:
        host = partition.fips_host
    return f"{'https' if use_ssl else 'http'}://{host}.{region}.{suffix}"


def validate_region(region_name: str | None) -> str:
    """Give back a usable region; `ConfigurationError` says how to name one, or what is wrong."""
    if not region_name:
        raise ConfigurationError(
            "No AWS region is set. Pass region_name= to the client, set the environment variable "
            "AWS_DEFAULT_REGION or AWS_REGION, or set region in the profile of the shared config "
            "file (~/.aws/config)."
        )
    if not _is_host_label(region_name) or region_name.isdigit():
        raise ConfigurationError(
            f"The AWS region {region_name!r} is malformed: a region is made of letters, digits "
            f"and inner hyphens, as in 'us-east-1'."
        )
    plain = region_name.replace("fips-", "").replace("-fips", "")
    if plain != region_name:
        raise ConfigurationError(
            f"{region_name!r} is a pseudo-region of older SDKs: use the region {plain!r} together "
            f"with use_fips_endpoint=True."
        )
    return region_name


def _is_host_label(text: str) -> bool:
    """Tell what RFC 1123 allows between two dots of a host name."""
    inner = text.isascii() and text.replace("-", "").isalnum()
    return inner and len(text) <= _LABEL and not text.startswith("-") and not text.endswith("-")


def _validate_url(url: str) -> str:
    if not (url.isascii() and url.isprintable()) or " " in url:
        # urlsplit would drop some of these characters silently.
        raise _malformed(url, "it holds blanks, control or non-ASCII characters")
    if "?" in url or "#" in url:
        raise _malformed(url, "it must not have a query or a fragment")
    if "@" in url.partition("//")[2].partition("/")[0]:
        raise _malformed(url, "a user name or password has no place in it")
    try:
        parts = urlsplit(url)
        usable = re.fullmatch(_NETLOC, parts.netloc) is not None and parts.port != 0
    except ValueError as error:  # brackets that do not match, a port above 65535
        raise _malformed(url, "it has no usable host name or port") from error
    if parts.scheme not in ("http", "https"):
        raise _malformed(url, "it must begin with http:// or https://")
    if not usable:
        raise _malformed(url, "it has no usable host name or port")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _malformed(url: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"The endpoint URL {show_url(url)} cannot be used: {why}. Give scheme and host, with a "
        f"port and a path where needed, as in 'http://localhost:8080'."
    )
