"""The border where the exceptions of aiohttp, sockets and our parser become errors of a call."""

from __future__ import annotations

from http import HTTPStatus

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from aiosmrt.errors import (
    AiosmrtError,
    ConfigurationError,
    ConnectError,
    ConnectionLost,
    TooManyOpenFiles,
    UnexpectedResponse,
)
from aiosmrt.http import Request
from aiosmrt.transport.descriptors import DESCRIPTOR_ADVICE, have_run_out
from aiosmrt.transport.exchange import Exchange
from aiosmrt.transport.response_parser import MalformedResponse

__all__ = ["describe", "refuse_proxying", "translate"]

# X509_V_ERR_… of OpenSSL's x509_vfy.h.
_NOT_YET_VALID = 9
_EXPIRED = 10
_WRONG_HOST = (62, 64)  # a name, an IP address

# What says the same of a host, with a proxy before it or without.
_BEYOND_PROXIES = (
    aiohttp.ClientConnectorCertificateError,
    aiohttp.ClientConnectorSSLError,
    aiohttp.ClientConnectorDNSError,
)

# Above this, a connection that breaks while sending may be the answer to the body's size.
_LARGE_BODY = 4_000_000


def translate(
    error: Exception, request: Request, exchange: Exchange, proxy: URL | None = None
) -> AiosmrtError:
    """Turn what was raised for a request into our error, but for its `may_have_run`."""
    what = describe(_find_root(error))
    if isinstance(error, aiohttp.ClientResponseError):
        _forget_headers(error)
    if exchange.begun_at is None:
        if have_run_out(error):
            return TooManyOpenFiles(
                f"no file descriptor is left for a connection to {request.origin}: {what}; "
                f"{DESCRIPTOR_ADVICE}"
            )
        proxied = None if proxy is None else _translate_proxying(error, what, request, proxy)
        return proxied or _translate_connecting(error, what, request)
    return _translate_sending(error, what, request, exchange)


def _forget_headers(error: aiohttp.ClientResponseError) -> None:
    """Take the request's headers, whose secrets it would print, out of an exception."""
    info = error.request_info._replace(headers=CIMultiDictProxy(CIMultiDict()))
    error.request_info = info
    error.args = (info, *error.args[1:])


def _find_root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _translate_proxying(
    error: Exception, what: str, request: Request, proxy: URL
) -> AiosmrtError | None:
    """Read an exception of the way to the proxy and through it, if it is one."""
    name = f"{proxy.host}:{proxy.port}"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return refuse_proxying(request, proxy, error.status, error.message)
    if isinstance(error, aiohttp.ClientConnectorCertificateError) and _is_of(error, proxy):
        advice = _advise(
            error, "proxy= or HTTPS_PROXY", ", or for the proxy alone with proxy_verify="
        )
        return ConnectError(f"the certificate of the proxy {name} was refused: {what}; {advice}")
    if isinstance(error, _BEYOND_PROXIES) or not isinstance(error, aiohttp.ClientError | OSError):
        return None
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return ConnectError(
            f"no connection to the proxy {name}: {what}; check proxy= and HTTPS_PROXY"
        )
    # After a handshake of TLS 1.3 a server can only close on who has shown no certificate.
    hint = ", and whether it wants proxy_client_cert=" if proxy.scheme == "https" else ""
    return ConnectError(
        f"no connection to {request.origin} through the proxy {name}: {what}; check endpoint_url, "
        f"proxy= and HTTPS_PROXY{hint}"
    )


def _is_of(error: aiohttp.ClientConnectorError, proxy: URL) -> bool:
    return (error.host, error.port) == (proxy.host, proxy.port)


def refuse_proxying(request: Request, proxy: URL, status: int, reason: str) -> ConnectError:
    """Build the error of a proxy that passes nothing on."""
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        advice = "check user and password in its URL (proxy= or HTTPS_PROXY)"
    else:
        advice = "check endpoint_url, and whether the proxy may go there"
    return ConnectError(
        f"the proxy {proxy.host}:{proxy.port} did not connect to {request.origin}: HTTP {status} "
        f"{reason}; {advice}"
    )


def _translate_connecting(error: Exception, what: str, request: Request) -> AiosmrtError:
    """Read an exception of the time before there was a connection."""
    origin = request.origin
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        advice = _advise(error, "endpoint_url")
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


def _advise(
    error: aiohttp.ClientConnectorCertificateError, option: str, otherwise: str = ""
) -> str:
    """Tell what to change so that a certificate is accepted; `option` names its host."""
    code = getattr(error.certificate_error, "verify_code", 0)
    if code in (_NOT_YET_VALID, _EXPIRED):
        return "the server needs a new one, unless this machine's clock is wrong"
    if code in _WRONG_HOST:
        return f"{option} must have a host name that the certificate is for"
    bundle = f"name its bundle with verify= or AWS_CA_BUNDLE{otherwise}"
    return f"if this authority is to be trusted, {bundle}"


def _translate_sending(
    error: Exception, what: str, request: Request, exchange: Exchange
) -> AiosmrtError:
    """Read an exception of the time between the connection and the answer's head."""
    origin = request.origin
    if isinstance(error, MalformedResponse):
        return UnexpectedResponse(
            f"{origin} did not answer in HTTP: {what}; check the scheme and the port of "
            "endpoint_url"
        )
    if exchange.answer.begun:
        return ConnectionLost(f"{origin} closed the connection in the middle of an answer's head")
    if exchange.may_be_whole:
        hint = "if it always does, this port may speak TLS: endpoint_url begins with https://"
        return ConnectionLost(
            f"{origin} closed the connection without an answer, after the whole request had been "
            f"sent: {what}{'' if origin.startswith('https') else f'; {hint}'}"
        )
    size = len(request.body)
    hint = "services close the connection on a body that is too large"
    return ConnectionLost(
        f"{origin} closed the connection while the request was being sent ({exchange.taken} of "
        f"{size} bytes of the body): {what}{f'; {hint}' if size > _LARGE_BODY else ''}"
    )


def describe(error: BaseException) -> str:
    """Name an exception with its text, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
