"""How S3 is called: over which connections, with which headers and signatures."""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

from aiosmrt.async_inference.s3_protocol import S3Endpoint
from aiosmrt.calls import Call, Caller, Observation, Shared
from aiosmrt.config import Timeout
from aiosmrt.errors import AiosmrtError, ServiceError
from aiosmrt.hooks import Hooks
from aiosmrt.redaction import redact
from aiosmrt.signing import Signer
from aiosmrt.transport import Pool

__all__ = ["OWNER", "S3Connection", "S3State", "describe_wait"]

OWNER = "x-amz-expected-bucket-owner"
_NOT_THEIRS = "So it says of a bucket that is not account {}'s, too: s3_expected_bucket_owner."
_AWAITED = {
    "slot": "a place in the connection pool (max_connections)",
    "connect": "a connection (a session= that was given may have too few)",
    "write": "S3 to take the request",
    "first_byte": "S3's answer",
    "idle": "more of S3's answer",
}


@attrs.frozen(eq=False)
class S3Connection:
    """What a request needs: the pool of the running loop, and how the client calls."""

    pool: Pool
    caller: Caller  # of the client; S3 signs for itself
    endpoint: S3Endpoint
    timeout: Timeout
    headers: Mapping[str, str] = attrs.field(repr=redact)  # of every request
    put_headers: Mapping[str, str] = attrs.field(repr=redact)  # of those that store an object
    hooks: Hooks | None = None  # of the client

    def observe(self, operation: str, location: str) -> Observation | None:
        """Give what tells the client's observers of a request; `None` where there are none."""
        if self.hooks is None:
            return None
        # What an observer adds is meant for the endpoint, and may be a secret of it.
        hooks = attrs.evolve(self.hooks, before_send=None)
        return Observation(hooks, operation, location, "s3")

    def explain(self, error: AiosmrtError) -> None:
        """Let an error of a call name what is to be changed where S3 is called."""
        # It was for the log; an object is no endpoint.
        error.endpoint_name = None
        owner = self.headers.get(OWNER)
        if not isinstance(error, ServiceError):
            # The transport knows of one endpoint only.
            error.args = (re.sub(r"\bendpoint_url\b", "s3_endpoint_url", str(error.args[0])),)
        elif error.status == 403 and owner is not None:  # noqa: PLR2004 - denied
            error.advice = f"{error.advice} {_NOT_THEIRS.format(owner)}".strip()


@attrs.define(eq=False)
class S3State:
    """What a client's requests to S3 have in common."""

    regions: dict[str, str] = attrs.field(factory=dict)  # of buckets, as redirects have taught
    shared: Shared | None = None  # a quota of its own: what S3 refuses costs the model's calls none
    warned: bool = False  # of plain HTTP, which is once for a client
    _signers: dict[str, Signer] = attrs.field(factory=dict)

    def choose_signer(self, region: str) -> Signer:
        """Give the signer of a region, by S3's rules for paths and the body's hash."""
        if region not in self._signers:
            self._signers[region] = Signer(region, "s3", normalize_path=False, content_sha256=True)
        return self._signers[region]


def describe_wait(call: Call) -> str:
    """Say what a call waits for."""
    # Else it is about to sign, or to go on.
    otherwise = "another attempt" if call.attempts else "credentials"
    what = f"waiting for {_AWAITED.get(call.limits.awaited, otherwise)}"
    if call.attempts:
        last = call.attempts[-1]
        what += f", after {last.number} failed attempts (the last: {last.error})"
    return what
