"""Asynchronous inference: submit, wait, resume, and the S3 that this needs.

It knows how a call is carried out, and nothing of the client in front of it.
"""

from __future__ import annotations
