"""The border where aiohttp's exceptions become ours, most specific first."""

from __future__ import annotations

import aiohttp

from aiosmrt.errors import (
    AiosmrtError,
    ConfigurationError,
    ConnectError,
    ConnectionLost,
    UnexpectedResponse,
)
from aiosmrt.http import Request
from aiosmrt.transport.body import Body

__all__ = ["describe", "translate"]

# Above this, a connection that breaks while sending may be the answer to the body's size.
_LARGE_BODY = 4_000_000


def translate(error: Exception, request: Request, body: Body) -> AiosmrtError:
    """Turn what aiohttp raised for a request into our error, `may_have_run` included."""
    translated = _translate_connecting(error, request)
    if translated is None:
        translated = _translate_sending(error, request, body)
    translated.may_have_run = body.sent
    return translated


def _translate_connecting(error: Exception, request: Request) -> AiosmrtError | None:
    """Read an exception of the time before there was a connection."""
    origin = request.origin
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return ConnectError(
            f"the certificate of {origin} was refused: {error.certificate_error}; if this "
            "authority is to be trusted, name its bundle with verify= or AWS_CA_BUNDLE"
        )
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return ConnectError(
            f"TLS with {origin} failed: {error.os_error}; does this port speak TLS? If not, "
            "endpoint_url begins with http://"
        )
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return ConnectError(
            f"{origin} has no address: {error.os_error}; check region_name and endpoint_url"
        )
    if isinstance(error, aiohttp.ClientConnectorError):
        return ConnectError(f"no connection to {origin}: {error.os_error}; check endpoint_url")
    if isinstance(error, RuntimeError | ValueError):
        return ConfigurationError(f"{origin}{request.path} cannot be called: {error}")
    return None


def _translate_sending(error: Exception, request: Request, body: Body) -> AiosmrtError:
    """Read an exception of the time between the connection and the answer's head."""
    if isinstance(error, aiohttp.ClientResponseError):
        return UnexpectedResponse(
            f"{request.origin} did not answer in HTTP: {error.message}; check the scheme and the "
            "port of endpoint_url",
            status=error.status,
        )
    if body.sent:
        hint = ""
        if request.origin.startswith("http://"):
            hint = "; if it always does, this port may speak TLS: endpoint_url begins with https://"
        return ConnectionLost(
            f"{request.origin} closed the connection without an answer, after the whole request "
            f"had been sent: {describe(error)}{hint}"
        )
    size = len(request.body)
    hint = (
        "; services close the connection on a body that is too large" if size > _LARGE_BODY else ""
    )
    return ConnectionLost(
        f"{request.origin} closed the connection while the request was being sent "
        f"({body.taken} of {size} bytes of the body): {describe(error)}{hint}"
    )


def describe(error: BaseException) -> str:
    """Name an exception with its text."""
    return f"{type(error).__name__}: {error}".rstrip(": ")
