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

# X509_V_ERR_… of OpenSSL's x509_vfy.h.
_NOT_YET_VALID = 9
_EXPIRED = 10
_WRONG_HOST = (62, 64)  # a name, an IP address

# Above this, a connection that breaks while sending may be the answer to the body's size.
_LARGE_BODY = 4_000_000


def translate(error: Exception, request: Request, body: Body) -> AiosmrtError:
    """Turn what aiohttp raised for a request into our error, `may_have_run` included."""
    what = describe(_find_root(error))
    if body.begun_at is None:
        proxied = _translate_proxying(error, what, request)
        return proxied or _translate_connecting(error, what, request)
    translated = _translate_sending(error, what, request, body)
    translated.may_have_run = body.sent
    return translated


def _find_root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _translate_proxying(error: Exception, what: str, request: Request) -> AiosmrtError | None:
    """Read an exception of the way to the proxy, if it is one."""
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return ConnectError(
            f"no connection to the proxy {error.host}:{error.port}: {what}; check proxy= and "
            "HTTPS_PROXY"
        )
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return ConnectError(
            f"the proxy did not connect to {request.origin}: HTTP {error.status} {error.message}; "
            "check its URL, user and password (proxy= or HTTPS_PROXY)"
        )
    return None


def _translate_connecting(error: Exception, what: str, request: Request) -> AiosmrtError:
    """Read an exception of the time before there was a connection."""
    origin = request.origin
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        advice = _advise(getattr(error.certificate_error, "verify_code", 0))
        return ConnectError(f"the certificate of {origin} was refused: {what}; {advice}")
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return ConnectError(
            f"TLS with {origin} failed: {what}; does this port speak TLS? If not, endpoint_url "
            "begins with http://"
        )
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return ConnectError(
            f"the host {error.host} has no address: {what}; check region_name and endpoint_url, or "
            "the proxy if it is that one's name"
        )
    if isinstance(error, RuntimeError | ValueError):
        return ConfigurationError(f"{origin}{request.path} cannot be called: {what}")
    return ConnectError(f"no connection to {origin}: {what}; check endpoint_url")


def _advise(code: int) -> str:
    """Tell what to change so that a certificate is accepted."""
    if code in (_NOT_YET_VALID, _EXPIRED):
        return "the server needs a new one, unless this machine's clock is wrong"
    if code in _WRONG_HOST:
        return "endpoint_url must have a host name that the certificate is for"
    return "if this authority is to be trusted, name its bundle with verify= or AWS_CA_BUNDLE"


def _translate_sending(error: Exception, what: str, request: Request, body: Body) -> AiosmrtError:
    """Read an exception of the time between the connection and the answer's head."""
    origin = request.origin
    if isinstance(error, aiohttp.ClientResponseError):
        return UnexpectedResponse(
            f"{origin} did not answer in HTTP: {what}; check the scheme and the port of "
            "endpoint_url"
        )
    if isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(error.message, str):
        return ConnectionLost(f"{origin} closed the connection in the middle of an answer's head")
    if body.sent:
        hint = "if it always does, this port may speak TLS: endpoint_url begins with https://"
        return ConnectionLost(
            f"{origin} closed the connection without an answer, after the whole request had been "
            f"sent: {what}{'' if origin.startswith('https') else f'; {hint}'}"
        )
    size = len(request.body)
    hint = "services close the connection on a body that is too large"
    return ConnectionLost(
        f"{origin} closed the connection while the request was being sent ({body.taken} of {size} "
        f"bytes of the body): {what}{f'; {hint}' if size > _LARGE_BODY else ''}"
    )


def describe(error: BaseException) -> str:
    """Name an exception with its text, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
