"""What goes over the wire to and from S3: places, hosts, errors, listings. Pure.

The rules are those of the Amazon S3 API reference, the hosts those of botocore's rule set for S3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, unquote_plus, urlsplit
from xml.etree import ElementTree as ET

import attrs

from aiosmrt.errors import (
    AiosmrtError,
    ConfigurationError,
    ParameterError,
    ServiceError,
    UnexpectedResponse,
)
from aiosmrt.http import ResponseHead
from aiosmrt.redaction import show_url
from aiosmrt.service import read_request_id
from aiosmrt.settings import PARTITIONS, validate_region

__all__ = [
    "S3Endpoint",
    "S3Location",
    "build_error",
    "describe_replaced",
    "find_region",
    "may_be_absent",
    "parse_listing",
    "parse_xml",
    "quote_key",
    "refuse_listing",
]

# Keys are UTF-8, which has no halves of surrogate pairs: so Python reads arguments that are not.
_LOCATION = re.compile(r"s3://([A-Za-z0-9][A-Za-z0-9._-]*)/([^\ud800-\udfff]*)")
# What a bucket must be called so that its name can be a host name; dots would break TLS.
_HOSTABLE = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_DENIED = (
    "Allow s3:GetObject on it, and s3:ListBucket on its bucket: without that, S3 says this of "
    "what does not exist, too."
)
_WRITE_DENIED = (
    "Allow s3:PutObject on it, and kms:GenerateDataKey on the key that the bucket may encrypt with."
)
_DENIALS = ("AccessDenied", "403")  # the status is all that an answer to HEAD says
# Where it matters whose answer it is.
_DECISIVE = (403, 404)
_ADVICE = {
    "ExpiredToken": "The session token has expired: fetch new credentials.",
    "InvalidObjectState": "It is archived: restore it before it can be read.",
    "NoSuchBucket": "Check the bucket's name, and s3_endpoint_url.",
    "SignatureDoesNotMatch": "Check the secret key, and whether a proxy changes requests.",
}


# Which action S3 says is denied: "Troubleshoot access denied (403 Forbidden) errors" in its user
# guide. That on a key of AWS KMS counts however it is told.
_ACTION = re.compile(r"(?i:not authorized to perform):?\s+([\w-]+:[\w*]+)|\b(kms:[A-Z]\w+)")
# What AWS KMS says where it names no action.
_KEY = re.compile(r"\b(customer master key|KMS key)\b", re.IGNORECASE)
_EXPLICIT = re.compile(r"\bexplicit(ly)?\s+den(y|ied)\b", re.IGNORECASE)
# What S3 denies where a key is absent: to read it, or to know that.
_OF_ABSENCE = ("s3:getobject", "s3:listbucket")


@attrs.frozen
class S3Location:
    """Where an object is, `s3://<bucket>/<key>`; with a prefix for a key, where several are."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, text: str) -> S3Location:
        """Take a location apart.

        Raises:
            ParameterError: it is none.
        """
        match = _LOCATION.fullmatch(text)
        if match is None:
            arn = "; an access point is named by its alias" if "arn:" in text else ""
            raise ParameterError(
                f"{text!r} is no place in S3: write it as s3://<bucket>/<key>{arn}"
            )
        return cls(match[1], match[2])

    @classmethod
    def parse_object(cls, text: str) -> S3Location:
        """Take the location of one object apart; what S3 has without a key is a listing.

        Raises:
            ParameterError: it is none.
        """
        location = cls.parse(text)
        if not location.key:
            raise ParameterError(f"{text!r} is a bucket: name an object, s3://<bucket>/<key>")
        return location

    @property
    def folder(self) -> S3Location:
        """All of it up to the key's last slash."""
        return S3Location(self.bucket, "".join(self.key.rpartition("/")[:2]))

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@attrs.frozen
class S3Endpoint:
    """Where S3 is; botocore's rules, but us-east-1 has its regional host as every region has."""

    region_name: str
    # a custom one is used in path style, as botocore does
    endpoint_url: str | None = attrs.field(default=None, repr=show_url)
    use_fips_endpoint: bool = False
    use_dualstack_endpoint: bool = False
    use_ssl: bool = True

    def locate(self, bucket: str, region_name: str) -> tuple[str, str]:
        """Give the origin for a bucket, and the path that precedes its keys.

        Raises:
            ConfigurationError: the options contradict each other, or the region is malformed.
        """
        variants = self.use_fips_endpoint or self.use_dualstack_endpoint
        if self.endpoint_url is not None:
            if variants:
                raise ConfigurationError(
                    f"s3_endpoint_url={show_url(self.endpoint_url)} (or AWS_ENDPOINT_URL_S3) names "
                    "the host, and so would use_fips_endpoint and use_dualstack_endpoint: unset "
                    "either"
                )
            parts = urlsplit(self.endpoint_url)
            if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc:
                raise ConfigurationError(
                    "s3_endpoint_url (or AWS_ENDPOINT_URL_S3) must be like http://localhost:9000"
                )
            return f"{parts.scheme}://{parts.netloc}", f"{parts.path.rstrip('/')}/{bucket}"
        region = validate_region(region_name)
        partition = next((p for p in PARTITIONS if re.match(p.regions, region)), PARTITIONS[0])
        if self.use_fips_endpoint and partition.name == "aws-cn":
            raise ConfigurationError(f"there is no FIPS endpoint of S3 in {region}")
        service = "s3-fips" if self.use_fips_endpoint else "s3"
        if self.use_dualstack_endpoint:
            service += ".dualstack"
        host = f"{service}.{region}.{partition.dns_suffix}"
        scheme = "https" if self.use_ssl else "http"
        if _HOSTABLE.fullmatch(bucket):
            return f"{scheme}://{bucket}.{host}", ""
        return f"{scheme}://{host}", f"/{bucket}"


def parse_listing(head: ResponseHead, body: bytes) -> tuple[list[str], str | None]:
    """Give the keys of a page of ListObjectsV2, and the token of the next page if there is one.

    With `encoding-type=url` S3 writes a space as `+`, and a plus as `%2B`. From a server that does
    not say whether it has encoded its keys, each is given in both readings.

    Raises:
        UnexpectedResponse: it is none.
    """
    try:
        root = parse_xml(body)
        written = [_text(item, "Key") for item in _find(root, "Contents")]
        keys = [unquote_plus(key, errors="strict") for key in written]
        if not _find(root, "EncodingType"):
            keys += [key for key, read in zip(written, keys, strict=True) if key != read]
        truncated = _text(root, "IsTruncated") == "true"
        token = _text(root, "NextContinuationToken") if truncated else None
    except ValueError as error:
        raise refuse_listing(head, body, str(error)) from error
    return keys, token


class _Builder(ET.TreeBuilder):
    def doctype(self, *_: str | None) -> None:
        """Refuse what declares entities; S3 never does."""
        raise ValueError("it declares a document type")


def parse_xml(body: bytes) -> ET.Element:
    """Read a document of S3's, or one that is sent to it.

    Raises:
        ValueError: it is no XML, or declares a document type.
    """
    parser = ET.XMLParser(target=_Builder())  # noqa: S314 - no document type, so no entities
    try:
        parser.feed(body)
        root: ET.Element = parser.close()
    except ET.ParseError as error:
        raise ValueError(f"it is no XML: {error}") from error
    return root


def _find(element: ET.Element, name: str) -> list[ET.Element]:
    return element.findall(f"{{*}}{name}")


def _text(element: ET.Element, name: str) -> str:
    found = _find(element, name)
    if not found:
        raise ValueError(f"it has no {name}")
    return found[0].text or ""


def refuse_listing(head: ResponseHead, body: bytes, why: str) -> UnexpectedResponse:
    """Build the error of an answer that is no listing."""
    return UnexpectedResponse(
        f"this is not S3's answer to ListObjectsV2: {why}; check s3_endpoint_url and proxies",
        status=head.status,
        headers=head.headers,
        body=body,
    )


def quote_key(key: str) -> str:
    """Encode a key as it stands in a path, on the wire and in the signature."""
    return quote(key, safe="/~")


def describe_replaced(location: S3Location, head: ResponseHead) -> UnexpectedResponse:
    """Build the error of an object that is not the one whose reading had begun."""
    return UnexpectedResponse(
        f"{location} was replaced or deleted while it was being read: read it again",
        status=head.status,
        headers=head.headers,
    )


def _read_fields(body: bytes) -> dict[str, str]:
    try:
        return {child.tag.rpartition("}")[2]: child.text or "" for child in parse_xml(body)}
    except ValueError:
        return {}


def build_error(
    head: ResponseHead, body: bytes, location: S3Location, *, writes: bool = False
) -> AiosmrtError:
    """Read an answer that is no success: S3's error, or what stands before it.

    Args:
        head: of the answer.
        body: of the answer.
        location: what was asked for.
        writes: whether an object was to be stored there.
    """
    fields: Mapping[str, str] = _read_fields(body)
    code = fields.get("Code") or str(head.status)
    if head.status in _DECISIVE and body and not fields.get("Code"):
        return UnexpectedResponse(
            f"what refused {location} (HTTP {head.status}) is not S3: check s3_endpoint_url, and "
            "proxies on the way",
            status=head.status,
            headers=head.headers,
            body=body,
        )
    if 300 <= head.status < 400:  # noqa: PLR2004 - the class of redirects
        return UnexpectedResponse(
            f"S3 redirects {location} without naming another region ({code}): check region_name "
            "and s3_endpoint_url",
            status=head.status,
            headers=head.headers,
            body=body,
        )
    error = ServiceError(
        f"{location}: {fields.get('Message') or 'S3 gave no message'}",
        code=code,
        status=head.status,
        headers=head.headers,
        fields=fields,
        advice=_advise(code, fields.get("Message", ""), _WRITE_DENIED if writes else _DENIED),
    )
    error.request_id = read_request_id(head)
    if not fields:
        error.body = body
    return error


def _advise(code: str, message: str, denied: str) -> str:
    if code.startswith("KMS."):
        return "It is the key that it is encrypted with: see to it in AWS KMS."
    if code not in _DENIALS:
        return _ADVICE.get(code, "")
    action, explicit = _read_denial(message)
    if explicit:
        return "A policy denies that, whatever others allow: change this one."
    if action and action.lower() not in _OF_ABSENCE:
        key = ", on the key that it is encrypted with" if action.lower().startswith("kms:") else ""
        return f"Allow {action}{key}."
    return denied


def _read_denial(message: str) -> tuple[str, bool]:
    """Find which action is denied, and whether by a policy that says so instead of by none."""
    match = _ACTION.search(message)
    action = match[1] or match[2] if match else ""
    if not action and _KEY.search(message):
        action = "kms:Decrypt"
    return action, _EXPLICIT.search(message) is not None


def may_be_absent(error: AiosmrtError) -> bool:
    """Tell whether S3 may deny access only because there is no such object.

    So it does to whom may not list the bucket. It is no such denial where the use of a key or
    another action than these two is denied, or reading by a policy that says so.
    """
    if not isinstance(error, ServiceError) or error.code not in _DENIALS:
        return False
    action, explicit = _read_denial(str(error.fields.get("Message", "")))
    if explicit:
        return action.lower() == "s3:listbucket"
    return not action or action.lower() in _OF_ABSENCE


def find_region(head: ResponseHead, body: bytes) -> str | None:
    """Find where the bucket really is; what is no region name is not believed."""
    region = head.headers.get("x-amz-bucket-region") or _read_fields(body).get("Region")
    try:
        return validate_region(region)
    except ConfigurationError:
        return None
