"""A certificate of a local endpoint's own, and the authority that it is from."""

from __future__ import annotations

import ssl
from pathlib import Path

from aiosmrt.errors import ConfigurationError

__all__ = ["load_certificate", "make_certificate"]

# What clients call this machine.
_NAMES = ("localhost", "127.0.0.1", "::1")


def make_certificate(host: str, folder: Path) -> tuple[ssl.SSLContext, Path]:
    """Make a certificate for this machine, and an authority that nobody trusts yet.

    Args:
        host: the address that is listened on.
        folder: where the authority's certificate goes.

    Returns:
        A server's context, and the authority's certificate (PEM): for `AWS_CA_BUNDLE`, `verify`.

    Raises:
        ConfigurationError: trustme is missing.
    """
    try:
        import trustme  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigurationError(
            "a certificate of its own takes the package trustme: pip install 'aiosmrt[tls]', or "
            "give a certificate by --tls-cert and --tls-key"
        ) from error
    authority = trustme.CA()
    names = dict.fromkeys((*_NAMES, host))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(context)
    path = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return context, path


def load_certificate(certificate: str, key: str | None) -> ssl.SSLContext:
    """Load a certificate from PEM files; without `key` that is in the same file.

    Raises:
        ConfigurationError: they cannot be read.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # Without a password OpenSSL would ask for one at the terminal.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"--tls-cert {certificate!r} cannot be used: {error}; it must be a PEM file of a "
            "certificate and its key, or give the key by --tls-key"
        ) from error
    return context
