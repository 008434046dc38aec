"""Frozen options: what a client can be told."""

from __future__ import annotations

import datetime
import enum
import math
import os
import re
import ssl
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import attrs

from aiosmrt.errors import AiosmrtError, ConfigurationError, ModelError
from aiosmrt.http import Session
from aiosmrt.redaction import redact, show_url
from aiosmrt.tracebacks import hides_locals
from aiosmrt.value import Partial, Value

if TYPE_CHECKING:
    from aiosmrt.hooks import Hooks

__all__ = [
    "UNSIGNED",
    "BotocoreCredentials",
    "BotocoreSession",
    "Config",
    "Credentials",
    "CredentialsSource",
    "RetryPolicy",
    "Timeout",
    "Unsigned",
]


class Unsigned(enum.Enum):
    """The type of `UNSIGNED`."""

    UNSIGNED = "unsigned"


UNSIGNED = Unsigned.UNSIGNED
"""As `signature_version`: requests are sent without a signature, and no credentials are needed."""


def _check_end(_: object, __: attrs.Attribute[datetime.datetime | None], value: object) -> None:
    if value is None:
        return
    if not isinstance(value, datetime.datetime):
        # Not what it is: it may be a key in the wrong place.
        kind = type(value).__qualname__
        raise ConfigurationError(
            f"Credentials(expires_at=...) must be a datetime with its zone, or None, not {kind}: "
            "datetime.fromisoformat() makes one of ISO 8601 text"
        )
    if value.utcoffset() is None:
        raise ConfigurationError(
            f"Credentials(expires_at={value!r}) has no zone, so that nobody knows when that is: "
            "give one with its zone, such as datetime.now(UTC) + timedelta(hours=1)"
        )


@attrs.frozen(eq=False, repr=False)
class Credentials(Value):
    """A key pair; temporary keys have a token, and an end.

    Attributes:
        access_key_id: the public half of the key pair.
        secret_access_key: its secret half.
        session_token: of temporary keys.
        expires_at: when they end, a datetime with its zone; `None` for keys that do not.
    """

    access_key_id: str
    secret_access_key: str = attrs.field(repr=False)
    session_token: str | None = attrs.field(default=None, repr=False)
    expires_at: datetime.datetime | None = attrs.field(default=None, validator=_check_end)


# What it is made with are plain arguments, and its validator raises.
Credentials.__init__ = hides_locals(Credentials.__init__)  # type: ignore[method-assign]


def _check_limit(_: object, attribute: attrs.Attribute[float], value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ConfigurationError(
            f"Timeout({attribute.name}={value!r}): seconds above 0, or None for no limit"
        )


@attrs.frozen(eq=False, repr=False)
class Timeout(Partial):
    """Time limits in seconds, `None` is no limit; each is named in the error it causes.

    A limit that is not given for a call, or for a derived client, is the client's.

    The service gives a model 60 seconds and advises a client to wait 70 (service model,
    InvokeEndpoint).

    Attributes:
        connect: seconds for name look-up, TCP, TLS and proxy.
        write: seconds that the socket may take no more of the request.
        first_byte: seconds to the head of the answer, and again to a stream's first frame.
        idle: seconds between later bytes; it stops while the consumer of a stream is busy.
        slot: seconds of waiting for a place in the connection pool.
        total: seconds of the whole call, its retries and, for a stream, its reading
            included.
        credentials: seconds of waiting for credentials that are being fetched, in which no
            place in the pool is held.
    """

    connect: float | None = attrs.field(default=5.0, validator=_check_limit)
    write: float | None = attrs.field(default=60.0, validator=_check_limit)
    first_byte: float | None = attrs.field(default=70.0, validator=_check_limit)
    idle: float | None = attrs.field(default=120.0, validator=_check_limit)
    slot: float | None = attrs.field(default=None, validator=_check_limit)
    total: float | None = attrs.field(default=None, validator=_check_limit)
    credentials: float | None = attrs.field(default=60.0, validator=_check_limit)

    @classmethod
    def of(cls, value: Timeout | float, base: Timeout) -> Timeout:
        """Take what `value` was given, a plain number being the total; all else from `base`."""
        return (value if isinstance(value, Timeout) else cls(total=value)).over(base)


ModelErrorTest: TypeAlias = Callable[[ModelError], bool]


def _freeze_statuses(
    value: ModelErrorTest | Collection[int] | None,
) -> ModelErrorTest | frozenset[int] | None:
    return frozenset(value) if isinstance(value, Collection) else value


@attrs.frozen(eq=False, repr=False)
class RetryPolicy(Value):
    """Which failures are attempted again, how often, and after how many seconds.

    The defaults are those of the SDKs' retry specification 2.1, with one difference: what may have
    run the model is not attempted again unless that is asked for.

    Attributes:
        max_attempts: how many attempts there may be, the first one included.
        mode: `standard`; `adaptive`, which also slows the client down when it is throttled;
            `off`.
        base_delay: seconds of the longest first delay, doubled from attempt to attempt.
        throttle_base_delay: seconds of the same after throttling.
        max_delay: seconds where the doubling ends; what the service asks for may add 5.
        backoff: (number of the failed attempt, its error) -> seconds, in place of the three
            above; `None` stops.
        retry_may_have_run: whether to retry after a 500, 502, 504, a read time limit or a
            lost connection: the model may then run, and cost, more than once.
        retry_model_error: the container's statuses, or a test, for which a `ModelError` is
            retried although the model ran.
        quota: how many tokens retries on one endpoint may use up, 14 for each, 5 after
            throttling, before successes give them back; `None` is no limit.
        capacity_wait: seconds that a call waits for capacity that is being made: of a
            component that was scaled to zero, of a model that is being loaded; attempts
            meanwhile do not count; 0 does not wait.
    """

    max_attempts: int = attrs.field(default=3)
    mode: Literal["standard", "adaptive", "off"] = attrs.field(default="standard")
    base_delay: float = attrs.field(default=0.05)
    throttle_base_delay: float = attrs.field(default=1.0)
    max_delay: float = attrs.field(default=20.0)
    backoff: Callable[[int, AiosmrtError], float | None] | None = attrs.field(default=None)
    retry_may_have_run: bool = attrs.field(default=False)
    retry_model_error: ModelErrorTest | Collection[int] | None = attrs.field(
        default=None, converter=_freeze_statuses
    )

    quota: int | None = attrs.field(default=500)

    capacity_wait: float = attrs.field(default=0.0)

    @property
    def attempt_limit(self) -> int:
        """How many attempts a call may take: `max_attempts`, 1 where retries are off."""
        return 1 if self.mode == "off" else self.max_attempts

    @max_attempts.validator
    def _check_attempts(self, _attribute: object, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigurationError(
                f"RetryPolicy(max_attempts={value!r}): an int of 1 or more, the first one included"
            )

    @quota.validator
    def _check_quota(self, _attribute: object, value: object) -> None:
        if value is None:
            return
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ConfigurationError(
                f"RetryPolicy(quota={value!r}): an int of 0 or more, or None for no limit"
            )

    @mode.validator
    def _check_mode(self, _attribute: object, value: object) -> None:
        if value not in ("standard", "adaptive", "off"):
            raise ConfigurationError(
                f"RetryPolicy(mode={value!r}): 'standard', 'adaptive' or 'off'"
            )

    @base_delay.validator
    @throttle_base_delay.validator
    @max_delay.validator
    @capacity_wait.validator
    def _check_delay(self, attribute: attrs.Attribute[float], value: object) -> None:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not 0 <= value < math.inf
        ):
            raise ConfigurationError(
                f"RetryPolicy({attribute.name}={value!r}): a number of seconds, 0 or more"
            )

    @backoff.validator
    def _check_backoff(self, _attribute: object, value: object) -> None:
        if not (value is None or callable(value)):
            raise ConfigurationError(
                f"RetryPolicy(backoff={value!r}): None, or a function that takes the attempt's "
                "number and its error and gives seconds"
            )

    @retry_may_have_run.validator
    def _check_switch(self, _attribute: object, value: object) -> None:
        if not isinstance(value, bool):
            raise ConfigurationError(f"RetryPolicy(retry_may_have_run={value!r}): True or False")

    @retry_model_error.validator
    def _check_model_error(self, _attribute: object, value: object) -> None:
        statuses = isinstance(value, frozenset) and all(isinstance(status, int) for status in value)
        if not (value is None or callable(value) or statuses):
            raise ConfigurationError(
                f"RetryPolicy(retry_model_error={value!r}): None, the container's statuses as "
                "ints, such as {503}, or a function that takes the ModelError"
            )


class BotocoreCredentials(Protocol):
    """Credentials of botocore or boto3, refreshable ones included."""

    def get_frozen_credentials(self) -> object:
        """Give the current keys; refreshes, and blocks, where it must."""


class BotocoreSession(Protocol):
    """A session of botocore or boto3."""

    def get_credentials(self) -> BotocoreCredentials | None:
        """Give the credentials of the session's chain, if it finds any."""


Path: TypeAlias = str | os.PathLike[str]
"""How a file can be named."""

CredentialsSource: TypeAlias = (
    Credentials
    | BotocoreCredentials
    | BotocoreSession
    | Callable[[], Awaitable[Credentials | BotocoreCredentials]]
)
"""What credentials can come from."""


def _to_timeout(value: Timeout | float | None) -> Timeout:
    return Timeout() if value is None else Timeout.of(value, Timeout())


def _check_connections(_: object, attribute: attrs.Attribute[int], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"{attribute.name} must be an int of 1 or more, not {value!r}")


def _to_signature_version(value: object) -> Unsigned | Literal["v4"]:
    # botocore's own sentinel is taken too, without importing botocore to know it.
    kind = type(value)
    if value is UNSIGNED or (kind.__module__, kind.__name__) == ("botocore", "UNSIGNED"):
        return UNSIGNED
    if value == "v4":
        return "v4"
    raise ConfigurationError(
        f"signature_version={value!r}: the service takes 'v4' only; aiosmrt.UNSIGNED is for "
        "endpoints that check no signature"
    )


def _check_api_version(_: object, __: attrs.Attribute[str], value: object) -> None:
    if value not in ("latest", "2017-05-13"):
        raise ConfigurationError(
            f"api_version={value!r}: there is one version of this service, '2017-05-13', which is "
            "the 'latest', too"
        )


def _check_proxy(_: object, __: attrs.Attribute[str | None], value: object) -> None:
    if value is not None and not (
        isinstance(value, str) and re.match(r"https?://[^/]", value, re.IGNORECASE)
    ):
        raise ConfigurationError("proxy: a URL such as 'http://user:password@host:3128', or None")


# Some 300 years: a datetime cannot be moved at will.
_FARTHEST_OFFSET = 1e10


def _check_offset(_: object, __: attrs.Attribute[float], value: object) -> None:
    # Not the other way round: a comparison with NaN is false.
    far = not isinstance(value, int | float) or not abs(value) <= _FARTHEST_OFFSET
    if far or isinstance(value, bool):
        raise ConfigurationError(f"system_clock_offset={value!r}: seconds, as a number")


def _check_switch(_: object, attribute: attrs.Attribute[bool], value: object) -> None:
    if not isinstance(value, bool):
        raise ConfigurationError(f"{attribute.name}={value!r}: True or False")


def _to_verify(
    value: bool | Path | ssl.SSLContext | None,  # noqa: FBT001 - boto3's option
    name: str = "verify",
) -> bool | str | ssl.SSLContext | None:
    if isinstance(value, str | os.PathLike):
        return os.fspath(value)
    if isinstance(value, bool | ssl.SSLContext | None):
        return value
    raise ConfigurationError(
        f"{name}={value!r}: True, False, the path of a CA bundle, or an ssl.SSLContext"
    )


def _to_proxy_verify(
    value: bool | Path | ssl.SSLContext | None,  # noqa: FBT001 - as verify
) -> bool | str | ssl.SSLContext | None:
    return _to_verify(value, "proxy_verify")


def _to_client_cert(
    value: Path | tuple[Path, Path] | None, name: str = "client_cert"
) -> str | tuple[str, str] | None:
    if value is None:
        return None
    if isinstance(value, str | os.PathLike):
        return os.fspath(value)
    try:
        certificate, key = value
        return os.fspath(certificate), os.fspath(key)
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"{name}={value!r}: the path of a PEM file of certificate and key, or a tuple of "
            "the paths of the two"
        ) from None


def _to_proxy_client_cert(
    value: Path | tuple[Path, Path] | None,
) -> str | tuple[str, str] | None:
    return _to_client_cert(value, "proxy_client_cert")


def _check_mapping(
    _: object, attribute: attrs.Attribute[Mapping[str, object]], value: object
) -> None:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{attribute.name}: a dict, or another mapping, by names")


def _check_policy(_: object, __: attrs.Attribute[RetryPolicy | None], value: object) -> None:
    if not isinstance(value, RetryPolicy | None):
        raise ConfigurationError(f"retry={value!r}: a RetryPolicy, or None")


def _check_agent(_: object, attribute: attrs.Attribute[str | None], value: object) -> None:
    if value is not None and not (isinstance(value, str) and re.fullmatch(r"[ -~]*", value)):
        raise ConfigurationError(f"{attribute.name}={value!r}: printable ASCII text, or None")


def _check_text(_: object, attribute: attrs.Attribute[str | None], value: object) -> None:
    if value is not None and not isinstance(value, str):
        # Not what it is: some are secrets.
        kind = type(value).__qualname__
        raise ConfigurationError(f"{attribute.name} must be a str or None, not {kind}")


def _check_prefix(_: object, __: attrs.Attribute[str | None], value: object) -> None:
    if value is not None and not (
        isinstance(value, str) and re.match(r"s3://[A-Za-z0-9][A-Za-z0-9._-]*/", value)
    ):
        raise ConfigurationError(f"s3_input_prefix={value!r}: 's3://bucket/prefix/', or None")


def _check_owner(_: object, __: attrs.Attribute[str | None], value: object) -> None:
    if value is not None and not (isinstance(value, str) and re.fullmatch(r"[0-9]{12}", value)):
        raise ConfigurationError(
            f"s3_expected_bucket_owner={value!r}: an account's 12 digits as a str, or None"
        )


def _check_keeping(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        _check_pause(_, attribute, value)


def _check_pause(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ConfigurationError(f"{attribute.name}={value!r}: seconds above 0")


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Config(Value):
    """Everything a client can be told; `None` leaves it to the environment and the profile.

    Attributes:
        region_name: the region whose endpoints are called.
        endpoint_url: where SageMaker Runtime is, such as `http://localhost:8080`; also
            AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME, AWS_ENDPOINT_URL, the profile.
        aws_access_key_id: the public half of a key pair.
        aws_secret_access_key: its secret half.
        aws_session_token: of temporary keys.
        profile_name: the profile of the shared files.
        credentials: `aiosmrt.Credentials`, an async function that gives some, or
            credentials or a session of botocore or boto3; in place of all that is looked
            for.
        use_ssl: whether the URLs that are not given begin with `https`; and `False` is how one
            says that plain HTTP is meant: without it a signed request to an `http` URL of another
            machine is refused, with it the log has a warning.
        verify: whether certificates are checked, or a CA bundle's path (also AWS_CA_BUNDLE), or an
            `ssl.SSLContext`; without it the system's authorities, or boto3's where there are none.
        use_fips_endpoint: whether the endpoint is one of FIPS; with `endpoint_url` an error.
        use_dualstack_endpoint: whether the endpoint has IPv6, too; with `endpoint_url` an error.
        max_connections: calls on the wire at a time, and as many requests to S3; further
            ones wait for a slot, and sign after they have waited.
        keep_alive: seconds that an idle connection is kept, less where its server's `Keep-Alive:
            timeout=` says so; `None` is no limit. Connections of a `session` are kept as that one
            keeps them.
        max_connection_age: seconds after which a connection is not used again, however busy it
            was; `None` is no limit.
        session: an aiohttp session whose connections to use; its headers, cookies and the
            like are not. Its traces are told of requests and connections, not of each piece of an
            answer.
        timeout: limits in seconds; a number is the total.
        retry: which failures are attempted again; also AWS_MAX_ATTEMPTS, AWS_RETRY_MODE, the
            profile.
        parameter_validation: which constraints of the service model are checked: all, none,
            or some of "min", "max", "pattern", "enum".
        params: parameters of every call; a call's own win.
        headers: headers of every call; a call's own win.
        api_version: "latest" or "2017-05-13", which is the same.
        signature_version: "v4", or `aiosmrt.UNSIGNED` (botocore's is taken too) to send no
            signature.
        correct_clock_skew: whether a signature refused for its time is made anew by the
            time of the service.
        system_clock_offset: seconds to add to this machine's time; `client.clock_offset` shows what
            was learnt.
        proxy: a URL; `None` leaves it to HTTPS_PROXY, HTTP_PROXY and NO_PROXY (names, addresses,
            CIDR ranges).
        proxy_headers: headers for the proxy itself.
        proxy_verify: as `verify`, towards a proxy that speaks TLS; where neither this nor
            `proxy_client_cert` is given, `verify` and `client_cert` count for it, too.
        proxy_client_cert: as `client_cert`, towards such a proxy.
        client_cert: a client certificate's PEM file, or the files of certificate and key.
        hooks: functions to call at the stations of every call.
        user_agent_extra: text that is added to the User-Agent header.
        user_agent_appid: an application's name, for the same header; also AWS_SDK_UA_APP_ID, the
            profile.
        s3_endpoint_url: where outputs of asynchronous invocations are read, and large
            inputs put; also AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, the profile.
        s3_input_prefix: "s3://bucket/prefix/", for inputs too large to travel inline.
        s3_put_headers: headers of the requests that put them there, signed, such as
            `{"x-amz-server-side-encryption": "aws:kms"}`; of these x-amz-request-payer goes with
            every request to S3.
        s3_expected_bucket_owner: the account whose buckets these must be, 12 digits; S3
            refuses others.
        poll_interval: seconds between the first two looks for an output.
        max_poll_interval: the most seconds between any two looks.
    """

    region_name: str | None = attrs.field(default=None, validator=_check_text)
    endpoint_url: str | None = attrs.field(default=None, validator=_check_text, repr=show_url)
    aws_access_key_id: str | None = attrs.field(default=None, validator=_check_text)
    aws_secret_access_key: str | None = attrs.field(default=None, repr=False, validator=_check_text)
    aws_session_token: str | None = attrs.field(default=None, repr=False, validator=_check_text)
    profile_name: str | None = attrs.field(default=None, validator=_check_text)
    credentials: CredentialsSource | None = attrs.field(default=None, repr=False)
    use_ssl: bool = attrs.field(default=True, validator=_check_switch)
    verify: bool | str | ssl.SSLContext | None = attrs.field(default=None, converter=_to_verify)
    use_fips_endpoint: bool | None = attrs.field(
        default=None, validator=attrs.validators.optional(_check_switch)
    )
    use_dualstack_endpoint: bool | None = attrs.field(
        default=None, validator=attrs.validators.optional(_check_switch)
    )
    max_connections: int = attrs.field(default=100, validator=_check_connections)
    keep_alive: float | None = attrs.field(default=12.0, validator=_check_keeping)
    max_connection_age: float | None = attrs.field(default=None, validator=_check_keeping)
    session: Session | None = attrs.field(default=None, repr=False)
    timeout: Timeout = attrs.field(default=None, converter=_to_timeout)
    retry: RetryPolicy | None = attrs.field(default=None, validator=_check_policy)
    parameter_validation: bool | Collection[str] = True
    params: Mapping[str, object] = attrs.field(factory=dict, repr=redact, validator=_check_mapping)
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=redact, validator=_check_mapping)
    api_version: str = attrs.field(default="latest", validator=_check_api_version)
    signature_version: object = attrs.field(default="v4", converter=_to_signature_version)
    correct_clock_skew: bool = attrs.field(default=True, validator=_check_switch)
    system_clock_offset: float = attrs.field(default=0.0, validator=_check_offset)
    proxy: str | None = attrs.field(default=None, validator=_check_proxy, repr=show_url)
    proxy_headers: Mapping[str, str] = attrs.field(
        factory=dict, repr=redact, validator=_check_mapping
    )
    proxy_verify: bool | str | ssl.SSLContext | None = attrs.field(
        default=None, converter=_to_proxy_verify
    )
    proxy_client_cert: str | tuple[str, str] | None = attrs.field(
        default=None, converter=_to_proxy_client_cert
    )
    client_cert: str | tuple[str, str] | None = attrs.field(default=None, converter=_to_client_cert)
    hooks: Hooks | None = None
    user_agent_extra: str | None = attrs.field(default=None, validator=_check_agent)
    user_agent_appid: str | None = attrs.field(default=None, validator=_check_agent)
    s3_endpoint_url: str | None = attrs.field(default=None, validator=_check_text, repr=show_url)
    s3_input_prefix: str | None = attrs.field(default=None, validator=_check_prefix)
    s3_put_headers: Mapping[str, str] = attrs.field(
        factory=dict, repr=redact, validator=_check_mapping
    )
    s3_expected_bucket_owner: str | None = attrs.field(default=None, validator=_check_owner)
    poll_interval: float = attrs.field(default=0.5, validator=_check_pause)
    max_poll_interval: float = attrs.field(default=15.0, validator=_check_pause)


# What it is made with are plain arguments, secrets too, and its validators raise.
Config.__init__ = hides_locals(Config.__init__)  # type: ignore[method-assign]
