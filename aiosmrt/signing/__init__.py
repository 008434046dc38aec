"""Who signs, how, and by which clock.

The only wing, beside the settings, that knows botocore: its whole chain of credentials.
"""

from __future__ import annotations

from aiosmrt.signing.chain import find_credentials
from aiosmrt.signing.clock import Clock
from aiosmrt.signing.credentials import CredentialProvider
from aiosmrt.signing.sigv4 import Signer

__all__ = ["Clock", "CredentialProvider", "Signer", "find_credentials"]
