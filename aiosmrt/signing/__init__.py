"""Who signs, how, and by which clock.

The only wing, beside the settings, that knows botocore: its whole chain of credentials.
"""

from __future__ import annotations
