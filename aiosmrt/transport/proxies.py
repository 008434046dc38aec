"""Which proxy a URL is reached through, by the environment's customs. Pure.

`HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` in either case, lower case first, as curl and botocore
read them. An entry of `NO_PROXY` is a host name (which stands for the names below it, too), an
address, a network in CIDR notation, any of them with a port, or `*`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

__all__ = ["bypasses_proxy", "find_proxy"]


def find_proxy(url: str, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """Give the proxy for a URL and the variable that names it, `None` for a direct connection."""
    parts = urlsplit(url)
    variable = f"{parts.scheme}_proxy"
    # A web server hands a request's Proxy header to its scripts as HTTP_PROXY (httpoxy).
    cgi = parts.scheme == "http" and "REQUEST_METHOD" in environ
    for name in (variable,) if cgi else (variable, variable.upper()):
        proxy = environ.get(name)
        if proxy:
            no_proxy = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
            if bypasses_proxy(parts.hostname or "", parts.port, no_proxy):
                return None
            return (proxy if "://" in proxy else f"http://{proxy}"), name
    return None


def bypasses_proxy(host: str, port: int | None, no_proxy: str) -> bool:
    """Tell whether a host (and port) is among those that `NO_PROXY` lists."""
    return any(_covers(entry.strip().lower(), host.lower(), port) for entry in no_proxy.split(","))


def _covers(entry: str, host: str, port: int | None) -> bool:
    if entry == "*":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if address is not None:
        try:
            return address in ipaddress.ip_network(entry.strip("[]"), strict=False)
        except ValueError:
            pass
    name, _, wanted = entry.rpartition(":")
    if name and wanted.isdecimal():
        if port != int(wanted):
            return False
        entry = name.strip("[]")
    name = entry.removeprefix("*").lstrip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))
