"""Asynchronous inference: submit, wait, resume, and the S3 that this needs.

It knows how a call is carried out, and nothing of the client in front of it.
"""

from __future__ import annotations

from aiosmrt.async_inference.client import AsyncInferenceClient, S3State
from aiosmrt.async_inference.invocation import AsyncInferenceTimeout, AsyncInvocation, read_output
from aiosmrt.async_inference.results import AsyncInferenceResult, Rounds
from aiosmrt.async_inference.s3 import S3, S3Object
from aiosmrt.async_inference.s3_protocol import S3Location, parse_xml

__all__ = [
    "S3",
    "AsyncInferenceClient",
    "AsyncInferenceResult",
    "AsyncInferenceTimeout",
    "AsyncInvocation",
    "Rounds",
    "S3Location",
    "S3Object",
    "S3State",
    "parse_xml",
    "read_output",
]
