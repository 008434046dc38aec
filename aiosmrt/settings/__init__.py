"""Where each option comes from, and what it comes to.

It reads arguments, variables and profiles, and may ask botocore where nobody else knows.
"""

from __future__ import annotations
