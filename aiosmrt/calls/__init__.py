"""One call, attempt after attempt: preparation, credentials, slot, signature, answer, again.

It knows the settings, the signers and the transport, and none of those who make calls.
"""

from __future__ import annotations

from aiosmrt.calls.answers import open_stream, read_body, refuse
from aiosmrt.calls.builder import CallBuilder, Telemetry
from aiosmrt.calls.call import NO_HOOKS, Call
from aiosmrt.calls.caller import Caller, Shared, read_refusal
from aiosmrt.calls.invoke import invoke
from aiosmrt.calls.observation import Observation
from aiosmrt.calls.request_body import collect_body, hash_body, write_json_body
from aiosmrt.calls.retries import FailureKind, classify, read_retry_after
from aiosmrt.calls.turns import Line, Turn

__all__ = [
    "NO_HOOKS",
    "Call",
    "CallBuilder",
    "Caller",
    "FailureKind",
    "Line",
    "Observation",
    "Shared",
    "Telemetry",
    "Turn",
    "classify",
    "collect_body",
    "hash_body",
    "invoke",
    "open_stream",
    "read_body",
    "read_refusal",
    "read_retry_after",
    "refuse",
    "write_json_body",
]
