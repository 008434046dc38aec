"""Signed requests go to another machine by https, unless plain HTTP is meant."""

from __future__ import annotations

import ipaddress
import logging
from urllib.parse import urlsplit

from aiosmrt.errors import ConfigurationError
from aiosmrt.redaction import redact_url

__all__ = ["is_exposed", "is_loopback", "judge_plain_http", "warn_of_plain_http"]

logger: logging.Logger = logging.getLogger(__name__)


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine: `localhost`, a name below it, 127.0.0.0/8 or `::1`."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def is_exposed(url: str, proxy: str | None = None) -> bool:
    """Tell whether requests to a URL leave this machine in plain HTTP, be it to a proxy."""
    if not url.lower().startswith("http:"):
        return False
    hosts = [_find_host(url), *([] if proxy is None else [_find_host(proxy)])]
    return not all(host is None or is_loopback(host) for host in hosts)


def _find_host(url: str) -> str | None:
    """Find the host; what is no URL is named as that by who goes there."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def judge_plain_http(url: str, proxy: str | None, option: str, *, use_ssl: bool) -> bool:
    """Tell whether requests to a URL leave this machine in plain HTTP, which is then meant.

    Args:
        url: where signed requests go to.
        proxy: through which proxy.
        option: which option gave the URL, and in brackets where that was.
        use_ssl: the client's option; `False` is for those who mean it.

    Raises:
        ConfigurationError: they do, and it is not.
    """
    if not is_exposed(url, proxy):
        return False
    if use_ssl:
        way = "" if proxy is None else f" by the proxy {redact_url(proxy)}"
        raise ConfigurationError(
            f"{redact_url(url)} is plain HTTP to another machine{way}: on the way a signed "
            f"request's body and session token can be read. Give an https:// URL as {option}, or "
            "use_ssl=False where plain HTTP is meant."
        )
    return True


def warn_of_plain_http(url: str) -> None:
    """Say in the log that it was meant."""
    logger.warning(
        "use_ssl=False: requests to %s are signed and sent in plain HTTP, where their bodies and "
        "session tokens can be read on the way",
        redact_url(url),
    )
