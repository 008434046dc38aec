"""Who signs, how, and by which clock.

The only wing, beside the settings, that knows botocore: its whole chain of credentials.
"""

from __future__ import annotations

from aiosmrt.signing.chain import find_credentials
from aiosmrt.signing.clock import Clock
from aiosmrt.signing.credentials import CredentialProvider
from aiosmrt.signing.sigv4 import Signer
from aiosmrt.signing.token_provider import TokenProvider

__all__ = ["Clock", "CredentialProvider", "Signer", "TokenProvider", "find_credentials"]
