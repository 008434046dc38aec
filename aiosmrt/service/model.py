"""The service model of SageMaker Runtime (API version 2017-05-13) as data.

One line per member: a field that the service adds next year is one line here and one in
`aiosmrt.service.parameters`. A test compares all of it with the model in the installed botocore.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

__all__ = [
    "API_VERSION",
    "INVOKE_ENDPOINT",
    "INVOKE_ENDPOINT_ASYNC",
    "INVOKE_ENDPOINT_WITH_RESPONSE_STREAM",
    "OPERATIONS",
    "SIGNING_NAME",
    "THROTTLING_CODES",
    "Member",
    "Operation",
    "Shape",
    "spell",
]

API_VERSION = "2017-05-13"
SIGNING_NAME = "sagemaker"

# The AWS-wide codes of one and the same thing (SDK retry specification, throttling errors).
THROTTLING_CODES = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)

Kind: TypeAlias = Literal["string", "integer", "blob", "stream"]
Location: TypeAlias = Literal["uri", "header", "payload", "json"]


@attrs.frozen(eq=False, repr=False)
class Shape:
    """The constraints of a value: lengths of strings in characters, of blobs in bytes."""

    name: str
    kind: Kind = "string"
    min: int | None = None
    max: int | None = None
    pattern: str | None = None  # as the model spells it, in the syntax of Java
    enum: tuple[str, ...] = ()
    sensitive: bool = False


def spell(name: str) -> str:
    """Turn the service's spelling into ours: `RequestTTLSeconds` into `request_ttl_seconds`."""
    spelled = ""
    for before, letter, after in zip(f" {name}", name, f"{name[1:]} ", strict=False):
        # "S3" is one word, as it is for botocore's xform_name.
        ends = before.islower() or before.isdigit() or (before.isupper() and after.islower())
        spelled += f"_{letter}" if letter.isupper() and ends else letter
    return spelled.lower()


@attrs.frozen(eq=False, repr=False)
class Member:
    """One member of a request or a response."""

    name: str  # the service's spelling
    shape: Shape
    location: Location = "header"
    header: str | None = None
    required: bool = False
    parameter: str = attrs.field(init=False)
    field: str = attrs.field(init=False)  # the header's name in lower case

    @parameter.default
    def _spell(self) -> str:
        return spell(self.name)

    @field.default
    def _lower(self) -> str:
        return (self.header or "").lower()


@attrs.frozen(eq=False, repr=False)
class Operation:
    """One operation: `POST /endpoints/{EndpointName}<path>`."""

    name: str
    path: str
    status: int  # of its success
    request: tuple[Member, ...]
    response: tuple[Member, ...]
    errors: tuple[str, ...]
    parameters: dict[str, Member] = attrs.field(init=False)
    required: tuple[Member, ...] = attrs.field(init=False)

    @parameters.default
    def _index(self) -> dict[str, Member]:
        return {member.parameter: member for member in self.request}

    @required.default
    def _find_required(self) -> tuple[Member, ...]:
        return tuple(member for member in self.request if member.required)


_NAME = r"^[a-zA-Z0-9](-*[a-zA-Z0-9])*"
_PRINTABLE = r"\A\S[\p{Print}]*\z"

_BODY = Shape("BodyBlob", "blob", max=6_291_456, sensitive=True)
_ASYNC_BODY = Shape("AsyncBodyBlob", "blob", max=128_000, sensitive=True)
_STREAM = Shape("ResponseStream", "stream")
_HEADER = Shape("Header", max=1024, pattern=r"\p{ASCII}*")
_CUSTOM = Shape("CustomAttributesHeader", max=1024, pattern=r"\p{ASCII}*", sensitive=True)
_ENDPOINT = Shape("EndpointName", max=63, pattern=_NAME)
_EXPLANATIONS = Shape("EnableExplanationsHeader", min=1, max=64, pattern=".*")
_FILENAME = Shape(
    "FilenameHeader", min=1, max=32, pattern=r"^(?!.*\..*\.)[a-zA-Z0-9][a-zA-Z0-9-_\.]*$"
)
_COMPONENT = Shape(
    "InferenceComponentHeader", max=63, pattern=r"^[a-zA-Z0-9]([\-a-zA-Z0-9]*[a-zA-Z0-9])?$"
)
_INFERENCE_ID = Shape("InferenceId", min=1, max=64, pattern=_PRINTABLE)
_INPUT = Shape("InputLocationHeader", min=1, max=1024, pattern="^(https|s3)://([^/]+)/?(.*)$")
_INVOCATION_TIMEOUT = Shape("InvocationTimeoutSecondsHeader", "integer", min=1, max=3600)
_REQUEST_TTL = Shape("RequestTTLSecondsHeader", "integer", min=60, max=21600)
_NEW_SESSION = Shape(
    "NewSessionResponseHeader",
    max=256,
    pattern=_NAME + r";\sExpires=[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$",
)
_PREFIX_AWARE = Shape("PrefixAwareIdHeader", min=1, max=64, pattern=_PRINTABLE)
_OUTPUT_EXTENSION = Shape(
    "S3OutputPathExtensionHeader",
    min=1,
    max=512,
    pattern="^(?!s3:|https:)[a-zA-Z0-9!_.*'()/-]+$",
)
_SESSION = Shape("SessionIdHeader", max=256, pattern=_NAME + "$")
_SESSION_OR_NEW = Shape(
    "SessionIdOrNewSessionConstantHeader", max=256, pattern=f"^(NEW_SESSION)$|{_NAME}$"
)
_HOSTNAME = Shape("TargetContainerHostnameHeader", max=63, pattern=_NAME)
_MODEL = Shape("TargetModelHeader", min=1, max=1024, pattern=_PRINTABLE)
_VARIANT = Shape("TargetVariantHeader", max=63, pattern=_NAME)

_ENDPOINT_NAME = Member("EndpointName", _ENDPOINT, "uri", required=True)
_CUSTOM_ATTRIBUTES = Member(
    "CustomAttributes", _CUSTOM, header="X-Amzn-SageMaker-Custom-Attributes"
)
_INFERENCE = Member("InferenceId", _INFERENCE_ID, header="X-Amzn-SageMaker-Inference-Id")
_TARGET_VARIANT = Member("TargetVariant", _VARIANT, header="X-Amzn-SageMaker-Target-Variant")
_TARGET_HOSTNAME = Member(
    "TargetContainerHostname", _HOSTNAME, header="X-Amzn-SageMaker-Target-Container-Hostname"
)
_INFERENCE_COMPONENT = Member(
    "InferenceComponentName", _COMPONENT, header="X-Amzn-SageMaker-Inference-Component"
)
_PREFIX_AWARE_ID = Member("PrefixAwareId", _PREFIX_AWARE, header="X-Amzn-SageMaker-Prefix-Aware-Id")
_INVOKED_VARIANT = Member(
    "InvokedProductionVariant", _HEADER, header="x-Amzn-Invoked-Production-Variant"
)

INVOKE_ENDPOINT = Operation(
    "InvokeEndpoint",
    path="/invocations",
    status=200,
    request=(
        _ENDPOINT_NAME,
        Member("Body", _BODY, "payload", required=True),
        Member("ContentType", _HEADER, header="Content-Type"),
        Member("Accept", _HEADER, header="Accept"),
        _CUSTOM_ATTRIBUTES,
        Member("TargetModel", _MODEL, header="X-Amzn-SageMaker-Target-Model"),
        _TARGET_VARIANT,
        _TARGET_HOSTNAME,
        _INFERENCE,
        Member("EnableExplanations", _EXPLANATIONS, header="X-Amzn-SageMaker-Enable-Explanations"),
        _INFERENCE_COMPONENT,
        Member("SessionId", _SESSION_OR_NEW, header="X-Amzn-SageMaker-Session-Id"),
        _PREFIX_AWARE_ID,
    ),
    response=(
        Member("Body", _BODY, "payload", required=True),
        Member("ContentType", _HEADER, header="Content-Type"),
        _INVOKED_VARIANT,
        _CUSTOM_ATTRIBUTES,
        Member("NewSessionId", _NEW_SESSION, header="X-Amzn-SageMaker-New-Session-Id"),
        Member("ClosedSessionId", _SESSION, header="X-Amzn-SageMaker-Closed-Session-Id"),
    ),
    errors=(
        "InternalFailure",
        "ServiceUnavailable",
        "ValidationError",
        "ModelError",
        "InternalDependencyException",
        "ModelNotReadyException",
    ),
)

INVOKE_ENDPOINT_ASYNC = Operation(
    "InvokeEndpointAsync",
    path="/async-invocations",
    status=202,
    request=(
        _ENDPOINT_NAME,
        Member("ContentType", _HEADER, header="X-Amzn-SageMaker-Content-Type"),
        Member("Accept", _HEADER, header="X-Amzn-SageMaker-Accept"),
        _CUSTOM_ATTRIBUTES,
        _INFERENCE,
        Member("InputLocation", _INPUT, header="X-Amzn-SageMaker-InputLocation"),
        Member(
            "S3OutputPathExtension",
            _OUTPUT_EXTENSION,
            header="X-Amzn-SageMaker-S3OutputPathExtension",
        ),
        Member("Filename", _FILENAME, header="X-Amzn-SageMaker-Filename"),
        Member("RequestTTLSeconds", _REQUEST_TTL, header="X-Amzn-SageMaker-RequestTTLSeconds"),
        Member(
            "InvocationTimeoutSeconds",
            _INVOCATION_TIMEOUT,
            header="X-Amzn-SageMaker-InvocationTimeoutSeconds",
        ),
        Member("Body", _ASYNC_BODY, "payload"),
    ),
    response=(
        Member("InferenceId", _HEADER, "json"),
        Member("OutputLocation", _HEADER, header="X-Amzn-SageMaker-OutputLocation"),
        Member("FailureLocation", _HEADER, header="X-Amzn-SageMaker-FailureLocation"),
    ),
    errors=("InternalFailure", "ServiceUnavailable", "ValidationError"),
)

INVOKE_ENDPOINT_WITH_RESPONSE_STREAM = Operation(
    "InvokeEndpointWithResponseStream",
    path="/invocations-response-stream",
    status=200,
    request=(
        _ENDPOINT_NAME,
        Member("Body", _BODY, "payload", required=True),
        Member("ContentType", _HEADER, header="Content-Type"),
        Member("Accept", _HEADER, header="X-Amzn-SageMaker-Accept"),
        _CUSTOM_ATTRIBUTES,
        _TARGET_VARIANT,
        _TARGET_HOSTNAME,
        _INFERENCE,
        _INFERENCE_COMPONENT,
        Member("SessionId", _SESSION, header="X-Amzn-SageMaker-Session-Id"),
        _PREFIX_AWARE_ID,
    ),
    response=(
        Member("Body", _STREAM, "payload", required=True),
        Member("ContentType", _HEADER, header="X-Amzn-SageMaker-Content-Type"),
        _INVOKED_VARIANT,
        _CUSTOM_ATTRIBUTES,
    ),
    errors=(
        "InternalFailure",
        "ServiceUnavailable",
        "ValidationError",
        "ModelError",
        "ModelStreamError",
        "InternalStreamFailure",
    ),
)

OPERATIONS = {
    operation.name: operation
    for operation in (INVOKE_ENDPOINT, INVOKE_ENDPOINT_ASYNC, INVOKE_ENDPOINT_WITH_RESPONSE_STREAM)
}
