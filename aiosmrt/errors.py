"""Every error that aiosmrt raises.

::

    AiosmrtError
    ├── ParameterError (ValueError)            the call's own arguments; nothing was sent
    ├── ConfigurationError (ValueError)        the client's options or the machine's settings
    ├── CredentialsError                       no credentials, or none could be fetched
    ├── ClientClosed                           the client was closed before or during the call
    ├── StreamClosed                           a response stream was read after it was closed
    ├── SessionExpired                         a stateful session is no more
    ├── AsyncInferenceError                    an asynchronous invocation failed
    ├── AsyncInferenceTimeout (TimeoutError)   ... or is not done within the time given; it lives
    │                                          beside AsyncInvocation
    ├── TooManyFailures                        more rows of a batch failed than it was to bear
    ├── UnexpectedResponse                     HTTP came back, but not from SageMaker as we know it
    ├── ServiceError                           the service (or a proxy before it) said no
    │   ├── ValidationError, ModelError, ModelNotReadyException, ServiceUnavailable,
    │   │   InternalFailure, InternalDependencyException, ThrottlingException
    │   └── ModelStreamError, InternalStreamFailure      raised inside a response stream
    ├── TransportError                         what happened below HTTP
    │   ├── ConnectError                       no connection: nothing was sent
    │   │   └── TooManyOpenFiles               ... for want of a file descriptor
    │   ├── ConnectionLost                     the connection died under the call
    │   └── TimeLimitError (TimeoutError)      a limit of `Timeout` fired
    │       └── CredentialsTimeout (CredentialsError), SlotTimeout, ConnectTimeout (ConnectError),
    │           WriteTimeout, FirstByteTimeout, IdleTimeout, TotalTimeout
    ├── PayloadError                           the payload is not what the chosen view needs,
    │   │                                      at a byte offset
    │   └── InvalidText, InvalidJSON, PayloadTooLarge
    └── EventStreamError                       the frames of a stream, at a byte offset
        ├── PreludeChecksumMismatch, MessageChecksumMismatch, InvalidLength, InvalidHeader
        ├── UnexpectedMessage                  a sound frame that means nothing to a client
        └── TruncatedStream                    the stream was cut
            └── StreamConnectionLost (ConnectionLost)    ... because the connection died

Every error can be pickled. An error of a call says which call it was, what was attempted, and
whether the model may have done its work.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, TypeAlias
from urllib.parse import quote

import attrs

from aiosmrt.plain_text import to_line

__all__ = [
    "AiosmrtError",
    "AsyncInferenceError",
    "ClientClosed",
    "ConfigurationError",
    "ConnectError",
    "ConnectTimeout",
    "ConnectionLost",
    "CredentialsError",
    "CredentialsTimeout",
    "EventStreamError",
    "FirstByteTimeout",
    "IdleTimeout",
    "InternalDependencyException",
    "InternalFailure",
    "InternalStreamFailure",
    "InvalidHeader",
    "InvalidJSON",
    "InvalidLength",
    "InvalidText",
    "MessageChecksumMismatch",
    "ModelError",
    "ModelNotReadyException",
    "ModelStreamError",
    "ParameterError",
    "PayloadError",
    "PayloadTooLarge",
    "PreludeChecksumMismatch",
    "ServiceError",
    "ServiceUnavailable",
    "SessionExpired",
    "SlotTimeout",
    "StreamClosed",
    "StreamConnectionLost",
    "ThrottlingException",
    "TimeLimitError",
    "TooManyFailures",
    "TooManyOpenFiles",
    "TotalTimeout",
    "TransportError",
    "TruncatedStream",
    "UnexpectedMessage",
    "UnexpectedResponse",
    "ValidationError",
    "WriteTimeout",
]


SessionEnd: TypeAlias = Literal["expired", "closed", "refused"]

_NOTHING = "the service gave no message"

# A UUID, or what S3 and gateways have for one.
_REQUEST_ID = r"[0-9A-Za-z][0-9A-Za-z=_-]{0,127}"

# InvokeEndpoint's documentation: a container must answer within 60 seconds.
_MODEL_SECONDS = 60.0
SIXTY_SECONDS_ADVICE = (
    "The model had 60 seconds: use invoke_endpoint_with_response_stream, which may stream longer, "
    "or invoke_endpoint_async."
)


# Signs that end a sentence, those of Chinese and Japanese among them.
_SENTENCE_ENDS = (".", "!", "?", "…", "\u3002", "\uff01", "\uff1f")


def _join_sentences(*sentences: str) -> str:
    """Join what is not empty; what others have said may have no full stop at its end."""
    *before, last = [sentence.strip() for sentence in sentences if sentence.strip()]
    ended = [text if text.endswith(_SENTENCE_ENDS) else f"{text}." for text in before]
    return " ".join([*ended, last])


@attrs.frozen
class Attempt:
    """One request of a call, times in seconds.

    Attributes:
        number: counts from 1.
        started_at: when it began to wait for its pace, for credentials, or else for a slot;
            in UTC.
        slot_wait: seconds of waiting for a place in the connection pool.
        duration: seconds from the slot to the end of the attempt.
        status: the HTTP status; `None` where no answer came.
        error: the service's error code, or the class of what went wrong; `None` for a
            success.
        request_id: the service's id of the request.
        may_have_run: whether the model may have done the work in this attempt.
        delay: seconds of the pause before the next attempt; `None` for the last one.
        credentials_wait: seconds of waiting for credentials, which holds no slot.
        pace_wait: seconds of waiting for the pace that throttling has left, in adaptive
            mode.
        capacity_wait: seconds of waiting for an endpoint's capacity.
    """

    number: int
    started_at: datetime.datetime
    slot_wait: float
    duration: float
    status: int | None = None
    error: str | None = None
    request_id: str | None = None
    may_have_run: bool = False
    delay: float | None = None
    credentials_wait: float = 0.0
    pace_wait: float = 0.0
    capacity_wait: float = 0.0


class AiosmrtError(Exception):
    """The root of every error of this package.

    Attributes:
        operation: the service's name of the operation, `None` outside a call.
        endpoint_name: the endpoint that was called.
        request_id: the service's id of the last request that was answered, if any was.
        attempts: what was tried, one entry per request that was begun.
        may_have_run: whether the model may have done (paid) work for this call.
        public_text: what strangers may read.
        not_retried: why there was no further attempt, in words; empty where the error itself says.
        parts_received: in a stream, the payload parts that came before the fault.
        bytes_received: in a stream, the payload bytes that came before the fault.
    """

    operation: str | None = None
    endpoint_name: str | None = None
    request_id: str | None = None
    attempts: tuple[Attempt, ...] = ()
    may_have_run: bool = False
    not_retried: str = ""
    parts_received: int | None = None
    bytes_received: int | None = None

    def __init__(self, message: str) -> None:
        # One positional argument, all else in __dict__: that is what lets every child pickle.
        super().__init__(message)

    def __copy__(self) -> Self:
        """Give an equal error that was not raised yet: its cause and notes, but no traceback."""
        copied = type(self).__new__(type(self))
        copied.args = self.args
        copied.__dict__.update(self.__dict__)
        if hasattr(self, "__notes__"):
            copied.__notes__ = list(self.__notes__)
        copied.__cause__ = self.__cause__  # which hides the context, mostly the original
        return copied

    def __str__(self) -> str:
        # Most of it may be the service's words; as they were sent, they are in the attributes.
        context = self._context()
        where = f" [{', '.join(context)}]" if context else ""
        why = f"; not attempted again: {self.not_retried}" if self.not_retried else ""
        return to_line(self._summary() + where + why)

    @property
    def public_text(self) -> str:
        """What strangers may read: the class, and an id by which it can be found in the log.

        All else is for whoever runs the program: a text may name hosts, accounts and buckets, and
        quote what a model was sent.
        """
        # Whoever has answered has chosen it.
        known = self.request_id is not None and re.fullmatch(_REQUEST_ID, self.request_id)
        return f"{type(self).__name__}{f' (request id {self.request_id})' if known else ''}"

    def _summary(self) -> str:
        return str(self.args[0])

    def _context(self) -> list[str]:
        context = []
        if self.operation:
            context.append(self.operation)
        if self.endpoint_name:
            context.append(f"endpoint {self.endpoint_name!r}")
        if self.request_id:
            context.append(f"request id {self.request_id}")
        if self.attempts:
            context.append(f"attempt {len(self.attempts)}")
        if self.parts_received is not None:
            context.append(f"after {self.parts_received} parts, {self.bytes_received} bytes")
        if self.may_have_run:
            context.append("the model may have run")
        elif self.attempts:
            context.append("the model did not run")
        return context


class ParameterError(AiosmrtError, ValueError):
    """The arguments of a call break the service's rules; nothing was sent.

    Attributes:
        problems: every problem of the call, one sentence each.
    """

    def __init__(self, message: str, *, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems: tuple[str, ...] = tuple(problems) or (message,)


class ConfigurationError(AiosmrtError, ValueError):
    """An option, a variable or a profile says something that cannot be used."""


class CredentialsError(AiosmrtError):
    """There are no credentials, or fetching them failed."""


class ClientClosed(AiosmrtError):
    """The client, or the stateful session, was closed before the call or under it."""


class StreamClosed(AiosmrtError):
    """A response stream was read after it had been closed."""


class SessionExpired(AiosmrtError):
    """A stateful session is no more, and with it all that its model was told.

    Attributes:
        session_id: the id of it.
        expires_at: when it was to end, in UTC; `None` where the container did not say.
        reason: `expired`: its time is over, and nothing was sent. `closed`: the container had
            closed it, and nothing was sent. `refused`: the container has said that it has no such
            session, in the `ServiceError` that is the cause of the error of that call.
    """

    def __init__(
        self,
        message: str,
        *,
        session_id: str | None = None,
        expires_at: datetime.datetime | None = None,
        reason: SessionEnd = "expired",
    ) -> None:
        super().__init__(message)
        self.session_id = session_id
        self.expires_at = expires_at
        self.reason: SessionEnd = reason


class AsyncInferenceError(AiosmrtError):
    """An asynchronous invocation ended in a failure; its text is that of the failure file.

    Attributes:
        message: the failure file's words, as they are there.
        inference_id: of the invocation.
        failure_location: where the failure file is, `s3://…`.
    """

    def __init__(
        self,
        message: str,
        *,
        inference_id: str | None = None,
        failure_location: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.inference_id = inference_id
        self.failure_location = failure_location

    def _context(self) -> list[str]:
        place = [f"inference id {self.inference_id}"] if self.inference_id else []
        return super()._context() + place


class TooManyFailures(AiosmrtError):
    """More rows of a batch have failed than its `max_failures` allows; the last one's is the cause.

    Every row that has failed was given with its own error before.
    """


class UnexpectedResponse(AiosmrtError):
    """An HTTP answer that the service does not give, such as a redirect or a proxy's page.

    Attributes:
        status: the HTTP status.
        headers: the answer's headers, names in lower case.
        body: what came of the body.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers: dict[str, str] = dict(headers or {})
        self.body = body

    @property
    def body_start(self) -> bytes:
        """The first 200 bytes of the body, which are those that the text shows."""
        return self.body[:200]


class ServiceError(AiosmrtError):
    """The service refused or failed the call.

    Codes that the service model does not name (`AccessDeniedException`,
    `ExpiredTokenException`, a proxy's bare status) come as this class itself.

    Attributes:
        code: the service's name of the error, the status as text where it has none.
        message: the service's own words, possibly empty.
        status: the HTTP status; 200 for an error inside a stream.
        headers: the answer's headers, names in lower case.
        fields: the whole JSON body, keys that no model names included.
        body: a body that is no JSON object, its first 256 KiB; else empty.
        advice: what to change, where that is known.
    """

    body: bytes = b""

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        status: int = 0,
        headers: Mapping[str, str] | None = None,
        fields: Mapping[str, object] | None = None,
        advice: str = "",
    ) -> None:
        super().__init__(message)
        self.code: str = code or type(self).__name__
        self.message = message
        self.status = status
        self.headers: dict[str, str] = dict(headers or {})
        self.fields: dict[str, object] = dict(fields or {})
        self.advice = advice

    @property
    def _title(self) -> str:
        # The status of a stream that had begun says nothing of what went wrong in it.
        failed = self.status and not 200 <= self.status < 300  # noqa: PLR2004 - the class of successes
        return f"{self.code} (HTTP {self.status})" if failed else self.code

    def _summary(self) -> str:
        return _join_sentences(f"{self._title}: {self.message or _NOTHING}", self.advice)


class ValidationError(ServiceError):
    """HTTP 400: the service found the request invalid."""


class ModelNotReadyException(ServiceError):
    """HTTP 429: the model is being loaded or cannot take the request yet; nothing ran."""


class ServiceUnavailable(ServiceError):
    """HTTP 503: the service cannot take the request now; nothing ran."""


class InternalFailure(ServiceError):
    """HTTP 500: the service failed; the model may have run."""


class InternalDependencyException(ServiceError):
    """HTTP 530: something the service depends on failed before the model."""


class ThrottlingException(ServiceError):
    """The request rate was too high; nothing ran."""


class ModelError(ServiceError):
    """HTTP 424: the model's container answered with an error."""

    @property
    def original_status_code(self) -> int | None:
        """The container's HTTP status; 0 where it did not answer."""
        status = self.fields.get("OriginalStatusCode")
        return status if isinstance(status, int) else None

    @property
    def original_message(self) -> str:
        """The container's own words, as it sent them."""
        message = self.fields.get("OriginalMessage")
        return message if isinstance(message, str) else ""

    @property
    def original_json(self) -> Any:  # noqa: ANN401 - as `json.loads` has it
        """`original_message` parsed, `None` where it is not JSON."""
        try:
            return json.loads(self.original_message)
        except (ValueError, RecursionError):
            return None

    @property
    def log_stream_arn(self) -> str | None:
        """The ARN of the container's log."""
        arn = self.fields.get("LogStreamArn")
        return arn if isinstance(arn, str) else None

    @property
    def log_url(self) -> str | None:
        """The CloudWatch console's page of the container's log group.

        `None` without an ARN, and in a partition whose console is not known here.
        """
        match = re.match(_LOG_ARN, self.log_stream_arn or "")
        if match is None or match["partition"] not in _CONSOLES:
            return None
        console = _CONSOLES[match["partition"]]
        region = match["region"]
        # The console takes its path doubly encoded, with $ for the outer percent sign.
        group = quote(quote(match["group"], safe=""), safe="").replace("%", "$")
        return (
            f"https://{region}.{console}/cloudwatch/home?region={region}"
            f"#logsV2:log-groups/log-group/{group}"
        )

    def _summary(self) -> str:
        status = self.original_status_code
        did = "did not answer" if status == 0 else f"answered {'' if status is None else status}"
        said = _essence(self.original_json) or self.original_message or self.message or _NOTHING
        log = f"Log: {self.log_url or self.log_stream_arn}" if self.log_stream_arn else ""
        return _join_sentences(f"{self._title}: the model {did.strip()}: {said}", self.advice, log)


_LOG_ARN = r"arn:(?P<partition>[^:]+):logs:(?P<region>[^:]+):[^:]*:log-group:(?P<group>[^:]+)"
_CONSOLES = {
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-us-gov": "console.amazonaws-us-gov.com",
}
# Where model servers put what they have to say.
_SENTENCES = ("message", "Message", "error", "detail", "error_message")


def _essence(parsed: object) -> str:
    """Find the sentence inside the usual JSON shapes of a model server's error."""
    while isinstance(parsed, dict):
        inner = [parsed.get(key) for key in _SENTENCES]
        parsed = next((value for value in inner if value and isinstance(value, str | dict)), None)
    return parsed if isinstance(parsed, str) else ""


class ModelStreamError(ServiceError):
    """The model failed while it streamed: so said the service, or the model server by itself."""

    _error_code: str | None = None

    @property
    def error_code(self) -> str | None:
        """`ModelInvocationTimeExceeded`, `StreamBroken`, or what else the service sent.

        Of a failure that a model server reports in its payload, its own code, status or type.
        """
        code = self.fields.get("ErrorCode")
        return code if isinstance(code, str) else self._error_code

    @error_code.setter
    def error_code(self, code: str | None) -> None:
        self._error_code = code

    def _summary(self) -> str:
        reason = f" {self.error_code}:" if self.error_code else ""
        return _join_sentences(f"{self._title}:{reason} {self.message or _NOTHING}", self.advice)


class InternalStreamFailure(ServiceError):
    """The service failed while it streamed."""


class TransportError(AiosmrtError):
    """What happened below HTTP.

    Attributes:
        body: the bytes of the answer's body that came before, where it was read as a whole.
    """

    body: bytes = b""


class ConnectError(TransportError):
    """No connection could be made: no such host, refused, TLS; nothing was sent."""


class TooManyOpenFiles(ConnectError):
    """No file descriptor was left for a connection: the limit of the process, or the machine's."""


class ConnectionLost(TransportError):
    """The connection died before the whole answer had come."""


class TimeLimitError(TransportError, TimeoutError):
    """A limit of `Timeout` fired.

    Attributes:
        limit: the name of the field of `Timeout`.
        seconds: its value.
    """

    def __init__(self, message: str, *, limit: str = "", seconds: float = 0.0) -> None:
        super().__init__(message)
        self.limit = limit
        self.seconds = seconds


class CredentialsTimeout(TimeLimitError, CredentialsError):
    """No credentials within `Timeout.credentials` seconds; nothing was sent."""


class SlotTimeout(TimeLimitError):
    """No place in the connection pool within `Timeout.slot` seconds; nothing was sent."""


class ConnectTimeout(TimeLimitError, ConnectError):
    """No connection (name, TCP, TLS, proxy) within `Timeout.connect` seconds; nothing was sent."""


class WriteTimeout(TimeLimitError):
    """The server took no byte of the request for `Timeout.write` seconds."""


class FirstByteTimeout(TimeLimitError):
    """No answer, or no first frame of a stream, within `Timeout.first_byte` seconds."""

    def _summary(self) -> str:
        # A limit below the service's own says nothing of the model.
        at_fault = self.operation == "InvokeEndpoint" and self.seconds >= _MODEL_SECONDS
        return _join_sentences(super()._summary(), SIXTY_SECONDS_ADVICE if at_fault else "")


class IdleTimeout(TimeLimitError):
    """Nothing came for `Timeout.idle` seconds in the middle of a body."""


class TotalTimeout(TimeLimitError):
    """The call as a whole took longer than `Timeout.total` seconds."""


class PayloadError(AiosmrtError):
    """The model's bytes are not what the chosen view of them needs.

    Attributes:
        offset: how many bytes of the payload precede the place at fault.
    """

    def __init__(self, message: str, *, offset: int = 0) -> None:
        super().__init__(message)
        self.offset = offset


class InvalidText(PayloadError):
    """Bytes that are not UTF-8."""


class InvalidJSON(PayloadError):
    """A JSON document that is malformed or stops before its end."""


class PayloadTooLarge(PayloadError):
    """A line, a document or an event is longer than its bound.

    Attributes:
        limit: the bound, in bytes.
    """

    def __init__(self, message: str, *, offset: int = 0, limit: int = 0) -> None:
        super().__init__(message, offset=offset)
        self.limit = limit


class EventStreamError(AiosmrtError):
    """The bytes are not a sound event stream.

    Attributes:
        offset: how many bytes of the stream precede the frame at fault.
    """

    def __init__(self, message: str, *, offset: int = 0) -> None:
        super().__init__(message)
        self.offset = offset


class PreludeChecksumMismatch(EventStreamError):
    """The CRC of a frame's first eight bytes is wrong."""


class MessageChecksumMismatch(EventStreamError):
    """The CRC of a whole frame is wrong."""


class InvalidLength(EventStreamError):
    """A frame's lengths contradict each other or exceed the configured cap."""


class InvalidHeader(EventStreamError):
    """A frame's header block is malformed."""


class UnexpectedMessage(EventStreamError):
    """A sound frame whose headers do not say what it is."""


class TruncatedStream(EventStreamError):
    """The stream stopped before its end was proven."""


class StreamConnectionLost(TruncatedStream, ConnectionLost):
    """The connection died under a response stream."""
