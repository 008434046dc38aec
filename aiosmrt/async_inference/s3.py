"""The part of Amazon S3 that async inference needs: objects in, objects out, and listings.

GetObject, HeadObject, PutObject and ListObjectsV2 of the Amazon S3 API reference, over the
client's own pool, credentials and retry policy. Every request here may be repeated: a read time
limit, a lost connection and a 5xx are retried, too.
"""

from __future__ import annotations

import asyncio
import base64
import builtins
import copy
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar
from urllib.parse import quote

import attrs

from aiosmrt.async_inference.s3_connection import S3Connection, S3State, describe_wait
from aiosmrt.async_inference.s3_protocol import (
    S3Location,
    build_error,
    describe_replaced,
    find_region,
    parse_listing,
    quote_key,
    refuse_listing,
)
from aiosmrt.calls import NO_HOOKS, Call, Shared, hash_body, read_refusal
from aiosmrt.config import Timeout
from aiosmrt.errors import AiosmrtError, ServiceError, TransportError, UnexpectedResponse
from aiosmrt.http import Request, ResponseHead
from aiosmrt.models import ResponseMetadata
from aiosmrt.redaction import Redacted
from aiosmrt.transport import Limits, MalformedContent, PooledResponse, open_content

__all__ = ["S3", "S3Object"]

T = TypeVar("T")

# A page has 1,000 keys of up to 1,024 bytes, each at most thrice as long when encoded.
_LONGEST_LISTING = 8 << 20
_NO_LIMITS = Timeout(connect=None, write=None, first_byte=None, idle=None)
_WRONG_REGION = frozenset({301, 307, 400})


@attrs.frozen
class _Elsewhere:
    region_name: str


@attrs.frozen(eq=False)
class S3:
    """Reads, writes and lists objects.

    Args:
        connect: gives the connection, resolving what has to be.
        state: of the client.
    """

    connect: Callable[[], Awaitable[S3Connection]]
    _state: S3State = attrs.field(factory=S3State)

    async def pause(self, seconds: float) -> None:
        """Wait between two requests.

        Raises:
            ClientClosed: the client is closed, or was meanwhile.
        """
        pool = (await self.connect()).pool
        limits = Limits(_NO_LIMITS, pool.alarm)
        pool.enter(limits)
        try:
            with limits:
                await asyncio.sleep(seconds)
        finally:
            pool.leave(limits)

    async def put(self, location: S3Location, body: bytes, content_type: str | None = None) -> None:
        """Store an object of up to 5 GB (the limit of one PutObject).

        With its checksum, which buckets with Object Lock demand ("Considerations for using Object
        Lock" of the S3 user guide). Of the algorithms that S3 takes (CRC32, CRC32C, CRC64NVME,
        SHA-1, SHA-256) SHA-256 costs nothing: the signature needs the same hash.

        Raises:
            AiosmrtError: it may not be there.
        """
        request = Request("PUT", "", quote_key(location.key), {}, body)
        del body
        request.headers |= (await self.connect()).put_headers
        if content_type is not None:
            request.headers["content-type"] = content_type
        digest = bytes.fromhex(await hash_body(request))
        request.headers["x-amz-checksum-sha256"] = base64.b64encode(digest).decode()
        request.headers["x-amz-sdk-checksum-algorithm"] = "SHA256"
        await self._put(request, location)

    async def make_bucket(self, bucket: str) -> None:
        """Make a bucket.

        Raises:
            ServiceError: `BucketAlreadyOwnedByYou`, or another refusal.
            AiosmrtError: it may not be there.
        """
        await self._put(Request("PUT", "", "", {}), S3Location(bucket, ""))

    async def _put(self, request: Request, location: S3Location) -> None:
        operation = "PutObject" if location.key else "CreateBucket"

        async def judge(response: PooledResponse, call: Call) -> None:
            await _check(response, location, writes=True)
            await response.read()
            call.end_attempt()

        await self._call(operation, request, location, judge)

    async def open(
        self, location: S3Location, *, start: int = 0, etag: str | None = None
    ) -> S3Object | None:
        """Ask for an object's bytes from `start` on; `None` where there is no such object.

        Args:
            location: of the object.
            start: how many bytes to leave out.
            etag: of the version it must be.

        Raises:
            ServiceError: `AccessDenied` also for an object that does not exist, to whom may not
                list the bucket.
            UnexpectedResponse: the object is another version, or the answer another range.
            AiosmrtError: no answer.
        """
        headers = {}
        if start:
            headers["range"] = f"bytes={start}-"
        if etag is not None:
            headers["if-match"] = etag

        async def judge(response: PooledResponse, call: Call) -> S3Object | None:
            if await _check(response, location, absent=("NoSuchKey",)):
                call.end_attempt()
                return None
            head = response.head
            found = head.headers.get("etag")
            if etag not in (None, found):
                raise describe_replaced(location, head)
            if head.status != (206 if start else 200) or (
                start and not head.headers.get("content-range", "").startswith(f"bytes {start}-")
            ):
                raise UnexpectedResponse(
                    f"asked for {location} from byte {start} on, S3 gave another range: "
                    f"HTTP {head.status}, {head.headers.get('content-range')!r}",
                    status=head.status,
                    headers=head.headers,
                )
            call.end_attempt()
            call.goes_on = True
            return S3Object(self, location, response, call, call.describe(head), start)

        request = Request("GET", "", quote_key(location.key), headers)
        return await self._call("GetObject", request, location, judge)

    async def exists(self, location: S3Location) -> bool:
        """Tell whether there is an object.

        An answer to HEAD has no body, so that S3's code is not in it: a missing bucket is a missing
        object, and what is wrong with a signature looks like a permission that is missing. Ask for
        something by `open` first.

        Raises:
            ServiceError: `403` also for an object that does not exist, to whom may not list the
                bucket.
            AiosmrtError: no answer.
        """

        async def judge(response: PooledResponse, call: Call) -> bool:
            absent = await _check(response, location, absent=("404",))
            # What tells the end of a body need not be there where there is none.
            await read_refusal(response)
            call.end_attempt()
            return not absent

        request = Request("HEAD", "", quote_key(location.key), {})
        try:
            return await self._call("HeadObject", request, location, judge)
        except ServiceError as error:
            if error.status != 400:  # noqa: PLR2004 - for instance an expired token
                raise
        # GET is told the reason.
        found = await self.open(location)
        if found is not None:
            found.close()
        return found is not None

    async def list(self, place: S3Location, *, pages: int) -> Collection[str] | None:
        """Give the keys that begin with `place.key`; `None` where they fill more than `pages`.

        Raises:
            AiosmrtError: they could not be listed.
        """
        keys: set[str] = set()
        token: str | None = None
        for _ in range(pages):
            page, token = await self._list_page(place, token)
            keys.update(page)
            if token is None:
                return keys
        return None

    async def lists(self, location: S3Location) -> bool:
        """Tell by a listing whether there is an object.

        Raises:
            AiosmrtError: it could not be listed.
        """
        # Of the keys that begin with it, a key itself is the first.
        keys, _ = await self._list_page(location, None)
        return location.key in keys

    async def _list_page(
        self, place: S3Location, token: str | None
    ) -> tuple[builtins.list[str], str | None]:
        async def judge(
            response: PooledResponse, call: Call
        ) -> tuple[builtins.list[str], str | None]:
            await _check(response, place)
            try:
                content = open_content(response)
            except MalformedContent as error:
                raise refuse_listing(response.head, b"", str(error)) from None
            chunks = []
            size = 0
            while chunk := await content.receive():
                size += len(chunk)
                if size > _LONGEST_LISTING:
                    raise refuse_listing(response.head, b"", "it is too long")
                chunks.append(chunk)
            call.end_attempt()
            return parse_listing(response.head, b"".join(chunks))

        query = {"encoding-type": "url", "list-type": "2", "prefix": place.key}
        if token is not None:
            query["continuation-token"] = token
        request = Request(
            "GET",
            "",
            "",
            {},
            query="&".join(f"{name}={quote(value, safe='')}" for name, value in query.items()),
        )
        return await self._call("ListObjectsV2", request, place, judge)

    async def _call(
        self,
        operation: str,
        request: Request,
        location: S3Location,
        judge: Callable[[PooledResponse, Call], Awaitable[T]],
    ) -> T:
        connection = await self.connect()
        client = connection.caller
        state = self._state
        if state.shared is None:
            state.shared = Shared(clock=client.shared.clock)
        bucket = location.bucket
        region = state.regions.get(bucket, connection.endpoint.region_name)

        async def look(response: PooledResponse, call: Call) -> T | _Elsewhere:
            if response.head.status in _WRONG_REGION and not tried:
                body = Redacted(await read_refusal(response))
                other = find_region(response.head, body.value)
                if other is not None and other != region:
                    call.end_attempt()
                    return _Elsewhere(other)
                raise build_error(response.head, body.value, location)
            return await judge(response, call)

        tried: set[str] = set()
        while True:
            origin, base = connection.endpoint.locate(bucket, region)
            caller = attrs.evolve(
                client,
                signer=None if client.signer is None else state.choose_signer(region),
                retry=attrs.evolve(client.retry, retry_may_have_run=True),
                shared=state.shared,
                region_name=region,
            )
            path = f"{base}/{request.path}" if request.path or not base else base
            observation = connection.observe(operation, str(location))
            timeout = attrs.evolve(connection.timeout, total=None)
            call = Call(
                operation=operation,
                endpoint_name=str(location),
                request=attrs.evolve(
                    request,
                    origin=origin,
                    path=path,
                    headers={**request.headers, **connection.headers},
                ),
                timeout=timeout,
                limits=Limits(timeout, connection.pool.alarm),
                # A stream may hold its slot for as long as it likes; no look waits for that.
                apart=True,
                throttled_as=f"s3://{bucket}",
                hooks=NO_HOOKS if observation is None else observation.hooks,
                observation=observation,
            )
            try:
                outcome = await caller.call(call, connection.pool, look)
            except AiosmrtError as error:
                connection.explain(error)
                raise
            except asyncio.CancelledError as error:
                error.add_note(describe_wait(call))
                raise
            if not isinstance(outcome, _Elsewhere):
                return outcome
            tried.add(region)
            region = state.regions[bucket] = outcome.region_name


@attrs.define(eq=False)
class S3Object:
    """An object whose bytes are on their way; a connection that dies is replaced by another.

    Whoever has one closes it.
    """

    _s3: S3
    location: S3Location
    _response: PooledResponse
    _call: Call
    metadata: ResponseMetadata
    received: int  # bytes, those left out included
    _failures: int = attrs.field(default=0, init=False)  # since the last byte came

    @property
    def content_type(self) -> str | None:
        """As it was stored."""
        return self.metadata.headers.get("content-type")

    async def receive(self) -> bytes:
        """Give the next bytes, `b""` at the proven end.

        Raises:
            UnexpectedResponse: the object was replaced meanwhile.
            AiosmrtError: the rest could not be had.
        """
        while True:
            try:
                chunk = await self._response.receive()
            except TransportError as error:
                self._response.close()
                await self._call.end(None, error)
                if not await self._go_on(error):
                    raise
                continue
            except AiosmrtError as error:
                await self._call.end(None, error)
                raise
            if not chunk:
                await self._call.end(self.metadata, size=self.received)
            self._failures = 0
            self.received += len(chunk)
            return chunk

    async def _go_on(self, error: TransportError) -> bool:
        """Ask for the rest, unless that was done too often."""
        self._failures += 1
        etag = self.metadata.headers.get("etag")
        limit = (await self._s3.connect()).caller.retry.attempt_limit
        if self._failures >= limit or etag is None:
            return False
        rest = await self._s3.open(self.location, start=self.received, etag=etag)
        if rest is None:
            raise describe_replaced(self.location, ResponseHead(404, {})) from error
        self._response, self._call = rest._response, rest._call  # noqa: SLF001 - of this very class
        return True

    def close(self) -> None:
        """Close the connection unless all was read. Idempotent."""
        self._response.close()
        self._call.end_detached(self.metadata, None, self.received)


async def _check(
    response: PooledResponse,
    location: S3Location,
    absent: Collection[str] = (),
    *,
    writes: bool = False,
) -> bool:
    """Raise what an answer means that is no success, but tell of a code that means absence."""
    head = response.head
    if head.status in (200, 206):
        return False
    body = Redacted(await read_refusal(response))
    if head.status == 412:  # noqa: PLR2004 - RFC 9110: a precondition, here If-Match, failed
        raise describe_replaced(location, head)
    error = build_error(head, body.value, location, writes=writes)
    if isinstance(error, ServiceError) and error.code in absent:
        return True
    raise copy.copy(error)  # this frame keeps the other
