"""One call, attempt after attempt: preparation, slot, credentials, signature, answer, again.

It knows the settings, the signers and the transport, and none of those who make calls.
"""

from __future__ import annotations
