"""Whom a client trusts, and how it shows who it is: the contexts of TLS that its options come to.

Certificates are checked as boto3 checks them, so that what works there works here. Python 3.13 has
made `ssl.create_default_context` strict (`VERIFY_X509_STRICT`), which refuses many private
authorities for want of an Authority Key Identifier; botocore's contexts are not strict (its
`httpsession.create_urllib3_context`). And where the system has no authorities at all, as in a small
container, those that boto3 brings along are trusted.
"""

from __future__ import annotations

import logging
import os
import re
import ssl

from aiosmrt.config import Config
from aiosmrt.errors import ConfigurationError
from aiosmrt.threads import Flight
from aiosmrt.transport import DESCRIPTOR_ADVICE, have_run_out

__all__ = ["DefaultContext", "default_context", "load_proxy_tls", "load_tls"]

_log = logging.getLogger("aiosmrt")


class DefaultContext:
    """The context of all who name no authorities, made once: it takes 20 ms, and a megabyte."""

    def __init__(self) -> None:
        self._flight = Flight(lambda: _make_context(verify=True))
        self._context: ssl.SSLContext | None = None

    async def load(self) -> ssl.SSLContext:
        """Give it, made in a thread where it is not there yet.

        Raises:
            ConfigurationError: there are no authorities, and botocore's cannot be read.
        """
        if self._context is None:
            self._context = await self._flight.join()
        return self._context


default_context: DefaultContext = DefaultContext()


def load_tls(verify: bool | str, config: Config) -> ssl.SSLContext | bool:  # noqa: FBT001 - boto3's option
    """Make what aiohttp takes as `ssl`; True is left to `default_context`, False is no check.

    Args:
        verify: the option, or what the environment says in its place, a path or a bool.
        config: whose `verify` may be a context.

    Raises:
        ConfigurationError: a file cannot be used.
    """
    if isinstance(config.verify, ssl.SSLContext):
        return _take_context(config.verify, config.client_cert)
    if isinstance(verify, bool) and config.client_cert is None:
        return verify
    return _make_context(verify, config.client_cert)


def load_proxy_tls(verify: bool | str, config: Config) -> ssl.SSLContext | None:  # noqa: FBT001 - boto3's option
    """Make the context for proxies that speak TLS; `None`: the one for the endpoint serves.

    Args:
        verify: what counts for the endpoint, a path or a bool, and where `proxy_verify` says
            nothing for proxies, too.
        config: the options.

    Raises:
        ConfigurationError: a file cannot be used, or the options cannot be used together.
    """
    if config.proxy_verify is None and config.proxy_client_cert is None:
        return None
    if config.session is not None:
        raise ConfigurationError(
            "proxy_verify and proxy_client_cert are of no use together with session, whose "
            "connector makes the connections to proxies: leave session out"
        )
    chosen = config.proxy_verify
    if isinstance(chosen, ssl.SSLContext):
        return _take_context(chosen, config.proxy_client_cert, "proxy_")
    if chosen is None and isinstance(config.verify, ssl.SSLContext):
        raise ConfigurationError(
            "proxy_client_cert cannot be loaded into the context given as verify, which is for "
            "the endpoint: say by proxy_verify whom to trust as a proxy"
        )
    return _make_context(verify if chosen is None else chosen, config.proxy_client_cert, "proxy_")


def _take_context(
    context: ssl.SSLContext, client_cert: str | tuple[str, str] | None, prefix: str = ""
) -> ssl.SSLContext:
    if client_cert is not None:
        raise ConfigurationError(
            f"{prefix}client_cert and a context as {prefix}verify exclude each other: load the "
            "certificate into the context, with load_cert_chain()"
        )
    return context


def _make_context(
    verify: bool | str,  # noqa: FBT001 - boto3's option
    client_cert: str | tuple[str, str] | None = None,
    prefix: str = "",
) -> ssl.SSLContext:
    """Make a context; `prefix` is that of the options that the two are given by."""
    try:
        context = _load_authorities(verify)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"the CA bundle {verify!r}{prefix and ' of proxy_verify'} cannot be read: {error}; "
            + _advise(error, "it must be a file of PEM certificates or a folder of them")
        ) from error
    if client_cert is not None:
        certificate, key = (client_cert, None) if isinstance(client_cert, str) else client_cert
        try:
            # Without a password OpenSSL would ask for one at the terminal.
            context.load_cert_chain(certificate, key, password="")
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                f"{prefix}client_cert {client_cert!r} cannot be read: {error}; "
                + _advise(
                    error,
                    "it must be a PEM file of certificate and key, without a password, or a tuple "
                    "of two such files",
                )
            ) from error
    return context


def _advise(error: OSError, advice: str) -> str:
    return DESCRIPTOR_ADVICE if have_run_out(error) else advice


def _load_authorities(verify: bool | str) -> ssl.SSLContext:  # noqa: FBT001 - boto3's option
    if not isinstance(verify, str):
        context = ssl.create_default_context()
        if not verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif not _has_authorities(context):
            _load_botocores(context)
    elif os.path.isdir(verify):  # noqa: PTH112 - boto3 takes a str
        context = ssl.create_default_context(capath=verify)
    else:
        context = ssl.create_default_context(cafile=verify)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _has_authorities(context: ssl.SSLContext) -> bool:
    """Tell whether the system has any: in a file, or in folders, which are read when needed."""
    if context.cert_store_stats()["x509"]:
        return True
    paths = ssl.get_default_verify_paths()
    folders = os.environ.get(paths.openssl_capath_env) or paths.openssl_capath
    # As OpenSSL looks for them (X509_LOOKUP_hash_dir).
    return any(
        re.fullmatch(r"[0-9a-f]{8}\.\d+", name)
        for folder in folders.split(os.pathsep)
        if os.path.isdir(folder)  # noqa: PTH112 - as it is in the variable
        for name in os.listdir(folder)  # noqa: PTH208 - as it is in the variable
    )


def _load_botocores(context: ssl.SSLContext) -> None:
    from botocore.httpsession import get_cert_path  # noqa: PLC0415 - slow, and seldom needed

    bundle = get_cert_path(True)  # noqa: FBT003 - of certifi, or else its own
    context.load_verify_locations(bundle)
    _log.info("this system has no certificate authorities; trusted are boto3's, %s", bundle)
