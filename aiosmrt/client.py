"""The client: three operations over one pool of connections."""

from __future__ import annotations

import asyncio
import copy
import os
import warnings
import weakref
from collections.abc import AsyncGenerator, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, overload
from urllib.parse import quote

import attrs

from aiosmrt.calls.answers import check_stream, check_success, read_body
from aiosmrt.calls.call import NO_HOOKS, Call
from aiosmrt.calls.caller import Caller, Shared
from aiosmrt.calls.request_body import collect_body
from aiosmrt.config import UNSIGNED, Config, Timeout
from aiosmrt.errors import AiosmrtError
from aiosmrt.models import InvokeEndpointResponse
from aiosmrt.redaction import Redacted
from aiosmrt.service.model import (
    INVOKE_ENDPOINT,
    INVOKE_ENDPOINT_ASYNC,
    INVOKE_ENDPOINT_WITH_RESPONSE_STREAM,
    Operation,
)
from aiosmrt.service.operations import (
    build_request,
    check_names,
    parse_response,
    respell,
)
from aiosmrt.service.parameters import (
    Arguments,
    ClientOptions,
    InvokeEndpointAsyncParameters,
    InvokeEndpointParameters,
    InvokeEndpointWithResponseStreamParameters,
)
from aiosmrt.service.validation import check_headers, check_parameters
from aiosmrt.settings.options import (
    IDENTITY,
    RESOLVED,
    bind_parameters,
    choose_constraints,
    configure,
    refuse_pool_options,
)
from aiosmrt.settings.resolution import Resolution
from aiosmrt.signing.clock import Clock
from aiosmrt.signing.credentials import CredentialProvider
from aiosmrt.tracebacks import forget_locals, hides_locals
from aiosmrt.transport import Pool, PooledResponse, PoolOptions, Pools
from aiosmrt.transport.limits import Limits

if TYPE_CHECKING:
    from aiosmrt.async_inference.client import AsyncInferenceClient, S3State
    from aiosmrt.async_inference.invocation import AsyncInvocation
    from aiosmrt.async_inference.results import AsyncInferenceResult
    from aiosmrt.response_stream import ResponseStream, ResponseStreamOpening

__all__ = ["SageMakerRuntimeClient"]

# What a trace id may hold as it is (botocore's list); the rest is percent-encoded.
_IN_TRACE_ID = "-=;:+&[]{}\"',"


class SageMakerRuntimeClient:
    """A client of Amazon SageMaker Runtime, for one or many event loops.

    Making one does no I/O; sockets, credentials and shared config files are touched by the first
    call, or by `warm_up`. Use it in `async with`, or `await` its `aclose`; one at module level
    needs neither.

    Args:
        config: options made beforehand, to be shared between clients.
        options: the fields of `aiosmrt.Config`, before those of `config`.

    Raises:
        TypeError: an option that does not exist, with the name that was probably meant.
        ConfigurationError: an option whose value cannot be used.
    """

    @hides_locals
    def __init__(self, config: Config | None = None, /, **options: Unpack[ClientOptions]) -> None:
        self._config = configure(Config() if config is None else config, options)
        self._pools = Pools()
        self._owner: SageMakerRuntimeClient | None = None  # of the pools, if it is another client
        self._providers: weakref.WeakSet[CredentialProvider] = weakref.WeakSet()
        self._resolution = Resolution(self._config)
        self._credentials = self._provide_credentials()
        self._shared = Shared(clock=Clock(self._config.system_clock_offset))
        self._caller: Caller | None = None
        self._s3_state: S3State | None = None

    @hides_locals
    def with_options(self, **options: Unpack[ClientOptions]) -> SageMakerRuntimeClient:
        """Give a client with other options over the same pool; closing it closes nothing.

        Raises:
            TypeError: an option that does not exist, or that shapes the pool.
            ConfigurationError: an option whose value cannot be used.
        """
        refuse_pool_options(options)
        config = configure(self._config, options)
        derived = copy.copy(self)
        # Kept alive, so that somebody is left to close the pools, or to warn.
        derived._owner = self._owner or self  # noqa: SLF001 - of this very class
        derived._derive(config, options)  # noqa: SLF001
        return derived

    def _derive(self, config: Config, options: ClientOptions) -> None:
        self._caller = None
        self._s3_state = None
        self._config = config
        if not options.keys().isdisjoint(RESOLVED):
            self._resolution = Resolution(config)
        if not options.keys().isdisjoint(IDENTITY):
            self._credentials = self._provide_credentials()
        if "system_clock_offset" in options:
            self._shared = attrs.evolve(self._shared, clock=Clock(config.system_clock_offset))

    def _provide_credentials(self) -> CredentialProvider:
        config = self._config
        provider = CredentialProvider(
            credentials=config.credentials,
            access_key_id=config.aws_access_key_id,
            secret_access_key=config.aws_secret_access_key,
            session_token=config.aws_session_token,
            profile_name=config.profile_name,
            region_name=config.region_name,
        )
        self._providers.add(provider)
        return provider

    @property
    def region_name(self) -> str:
        """The region that was resolved; errors as `endpoint_url`."""
        return self._resolution.resolve_now().region_name

    @property
    def endpoint_url(self) -> str:
        """The URL that was resolved.

        Raises:
            ConfigurationError: it cannot be resolved, or not without blocking the event loop:
                before the first call and with shared config files, `await warm_up()` first.
        """
        return self._resolution.resolve_now().endpoint_url

    @property
    def clock_offset(self) -> float:
        """Seconds that are added to this machine's time when requests are signed.

        At first `system_clock_offset`; then what a refused signature has taught.
        """
        return self._shared.clock.offset

    async def warm_up(self) -> None:
        """Do what the first call would have to wait for: settings and credentials.

        Raises:
            ConfigurationError: an option, a variable or a profile cannot be used.
            CredentialsError: there are no credentials.
        """
        await self._prepare()
        if self._config.signature_version is not UNSIGNED:
            await self._credentials.get()

    async def invoke_endpoint(
        self, **parameters: Unpack[InvokeEndpointParameters]
    ) -> InvokeEndpointResponse:
        """Invoke a model and wait for its whole answer.

        Args:
            parameters: `endpoint_name` and `body` (up to 6,291,456 bytes; text is sent as UTF-8)
                and the other members of InvokeEndpoint; `headers` for a field newer than this
                release; `timeout` for this call, a number being its total in seconds.

        Raises:
            TypeError: a keyword that the operation does not have.
            ParameterError: every constraint that the parameters break; nothing was sent.
            ConfigurationError, CredentialsError: the client cannot be used as it is.
            ServiceError: the service refused or failed; `ModelError` is the model's own failure.
            TransportError: no answer; `may_have_run` says whether the model may have run.
            UnexpectedResponse: an answer that is not SageMaker's.
            ClientClosed: the client was closed.
        """
        operation = INVOKE_ENDPOINT
        arguments = Arguments(parameters)
        del parameters
        pool, caller, call = await self._begin(operation, arguments)

        async def judge(response: PooledResponse, call: Call) -> InvokeEndpointResponse:
            body = await read_body(operation, response, call)
            call.end_attempt()
            return parse_response(response.head, body, call.describe(response.head))

        return await caller.call(call, pool, judge)

    async def invoke_endpoint_async(
        self,
        *,
        s3_input_prefix: str | None = None,
        **parameters: Unpack[InvokeEndpointAsyncParameters],
    ) -> AsyncInvocation:
        """Queue a request whose output will be in S3, and wait for the acknowledgement.

        Args:
            s3_input_prefix: `s3://bucket/prefix/`, under which a body above 128,000 bytes is
                stored first; `None` leaves it to the client's option of that name.
            parameters: `endpoint_name`, exactly one of `body` (up to 128,000 bytes travel inline)
                and `input_location`, and the other members of InvokeEndpointAsync; `headers` and
                `timeout` as for `invoke_endpoint`.

        Raises:
            AiosmrtError: as `invoke_endpoint`.
        """
        arguments = Arguments(parameters)
        del parameters
        return await self._async_inference.submit(arguments, s3_input_prefix)

    def resume_async_invocation(self, saved: str) -> AsyncInvocation:
        """Give an invocation whose output can be waited for, here or in another process.

        Args:
            saved: what its `to_json` gave.

        Raises:
            ParameterError: it is something else.
        """
        return self._async_inference.resume(saved)

    def wait_for_results(
        self,
        invocations: Iterable[AsyncInvocation],
        timeout: float | None = 900.0,
    ) -> AsyncGenerator[AsyncInferenceResult]:
        """Wait for many invocations: an async iterator of their results, as they are complete.

        Each invocation comes once, with its output or with the error that its `result` would have
        raised, `AsyncInferenceTimeout` included. Those whose outputs share a folder in S3 cost one
        listing a round together, not a look at each. Whoever leaves early loses nothing.

        Args:
            invocations: to wait for; also of other clients, other processes, or unpickled.
            timeout: seconds until those that are not complete are given with an error.
        """
        return self._async_inference.wait_for_results(invocations, timeout)

    @property
    def _async_inference(self) -> AsyncInferenceClient:
        from aiosmrt.async_inference.client import AsyncInferenceClient, S3State  # noqa: PLC0415 - start-up time

        if self._s3_state is None:
            self._s3_state = S3State()
        # It refers to the client, which must not refer to it in turn: a client that nobody holds
        # any longer is to be noticed at once.
        return AsyncInferenceClient(
            self._config, self._resolution, self._s3_state, self._prepare, self._begin
        )

    def invoke_endpoint_with_response_stream(
        self, **parameters: Unpack[InvokeEndpointWithResponseStreamParameters]
    ) -> ResponseStreamOpening:
        """Invoke a model that answers in parts.

        Nothing happens until the returned object is entered (`async with ... as stream`) or
        awaited. Both wait for the first frame, so an early failure is raised there.

        Args:
            parameters: `endpoint_name` and `body`, as for `invoke_endpoint`.

        Raises:
            TypeError: a keyword that the operation does not have; everything else when opened,
                as `invoke_endpoint`, and `EventStreamError` for frames that are not sound.
        """
        from aiosmrt.response_stream import ResponseStream, ResponseStreamOpening  # noqa: PLC0415 - start-up time

        operation = INVOKE_ENDPOINT_WITH_RESPONSE_STREAM
        arguments = Arguments(parameters)
        del parameters
        check_names(operation, arguments.parameters.keys())

        async def open_stream() -> ResponseStream:
            pool, caller, call = await self._begin(operation, arguments)

            async def judge(response: PooledResponse, call: Call) -> ResponseStream:
                await check_success(operation, response, call)
                await check_stream(response)
                return await ResponseStream(response, call, operation).begin()

            return await caller.call(call, pool, judge)

        return ResponseStreamOpening(open_stream)

    @overload
    async def call(
        self, operation: Literal["InvokeEndpoint"], parameters: Mapping[str, object]
    ) -> InvokeEndpointResponse: ...

    @overload
    async def call(
        self, operation: Literal["InvokeEndpointAsync"], parameters: Mapping[str, object]
    ) -> AsyncInvocation: ...

    @overload
    async def call(
        self,
        operation: Literal["InvokeEndpointWithResponseStream"],
        parameters: Mapping[str, object],
    ) -> ResponseStream: ...

    async def call(
        self, operation: str, parameters: Mapping[str, object]
    ) -> InvokeEndpointResponse | AsyncInvocation | ResponseStream:
        """Call an operation in the service's own spelling, for people who port code.

        Args:
            operation: `InvokeEndpoint`, `InvokeEndpointAsync` or
                `InvokeEndpointWithResponseStream`.
            parameters: such as `{"EndpointName": "my-endpoint", "Body": b"..."}`.

        Returns:
            What the method of that name gives; a response stream is open, and yours to close.

        Raises:
            TypeError: there is no such operation, or it has no such parameter.
            AiosmrtError: as the method of that name.
        """
        given = Redacted(parameters)
        del parameters
        # The methods check names and types; a TypedDict cannot be built from a mapping.
        respelled: Redacted[dict[str, Any]] = Redacted(respell(operation, given.value))
        if operation == INVOKE_ENDPOINT.name:
            return await self.invoke_endpoint(**respelled.value)
        if operation == INVOKE_ENDPOINT_ASYNC.name:
            return await self.invoke_endpoint_async(**respelled.value)
        return await self.invoke_endpoint_with_response_stream(**respelled.value)

    async def _begin(self, operation: Operation, arguments: Arguments) -> tuple[Pool, Caller, Call]:
        """Check a call's parameters and put the call together; nothing is sent yet."""
        check_names(operation, arguments.parameters.keys())
        bind_parameters(operation, self._config.params, arguments)
        try:
            return await self._prepare_call(operation, arguments)
        except AiosmrtError as error:
            forget_locals(error, error.__cause__)
            raise _place(error, operation, arguments) from error.__cause__

    async def _prepare_call(
        self, operation: Operation, arguments: Arguments
    ) -> tuple[Pool, Caller, Call]:
        config, given = self._config, arguments.timeout
        timeout = config.timeout if given is None else Timeout.of(given, config.timeout)
        pool, caller = self._pools.find(), self._caller
        limits = Limits(timeout, None if pool is None else pool.alarm)
        constraints = choose_constraints(config.parameter_validation)
        if (
            arguments.parameters.get("body").__class__ is not bytes
            and "body" in arguments.parameters
        ):
            shape = operation.parameters["body"].shape
            limit = shape.max if "max" in constraints else None
            with limits:
                arguments.parameters["body"] = await collect_body(
                    arguments.parameters["body"], limit
                )
        check_parameters(operation, arguments.parameters, constraints=constraints)
        if config.headers or arguments.headers:
            arguments.headers = {**config.headers, **arguments.headers}
            check_headers(arguments.headers, _headers_of(operation, arguments.parameters))
        if pool is None or caller is None:
            pool, caller = await self._prepare()
        resolved = self._resolution.resolve_now()
        headers = {"user-agent": resolved.user_agent}
        if resolved.in_lambda:
            headers.update(_read_trace())
        if arguments.headers:
            headers.update((name.lower(), value) for name, value in arguments.headers.items())
        request = build_request(
            operation,
            arguments.parameters,
            origin=resolved.origin,
            base_path=resolved.base_path,
            headers=headers,
        )
        call = Call(
            operation=operation.name,
            endpoint_name=str(arguments.parameters["endpoint_name"]),
            request=request,
            timeout=timeout,
            limits=limits,
            hooks=config.hooks or NO_HOOKS,
        )
        return pool, caller, call

    async def _prepare(self) -> tuple[Pool, Caller]:
        resolved = await self._resolution.resolve()
        pool = await self._pools.make(
            PoolOptions(
                max_connections=self._config.max_connections,
                tls=resolved.tls,
                session=self._config.session,
                proxy=self._config.proxy,
                environ=os.environ,
                proxy_headers=self._config.proxy_headers,
            )
        )
        if self._caller is None:
            self._caller = Caller(
                signer=resolved.signer,
                credentials=self._credentials,
                retry=resolved.retry,
                shared=self._shared,
                correct_clock_skew=self._config.correct_clock_skew,
            )
        return pool, self._caller

    async def aclose(self) -> None:
        """Close the connections and end calls in flight with `ClientClosed`. Idempotent.

        On a client that `with_options` gave, this does nothing.
        """
        if self._owner is None:
            await self._pools.aclose()
            await asyncio.gather(*(provider.aclose() for provider in tuple(self._providers)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        # One whose constructor has failed is shown by tracebacks.
        resolved = getattr(getattr(self, "_resolution", None), "resolved", None)
        where = "not resolved yet" if resolved is None else resolved.endpoint_url
        return f"<{type(self).__name__} {where}>"

    def __del__(self) -> None:
        pools = getattr(self, "_pools", None)
        if pools is not None and self._owner is None and pools.open:
            warnings.warn(
                f"{self!r} was never closed: use it in an async with block, or await its aclose()",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )


def _read_trace() -> dict[str, str]:
    """Pass the trace of a Lambda function's invocation on, as botocore does."""
    trace = os.environ.get("_X_AMZN_TRACE_ID")
    return {"x-amzn-trace-id": quote(trace, safe=_IN_TRACE_ID)} if trace else {}


def _place(error: AiosmrtError, operation: Operation, arguments: Arguments) -> AiosmrtError:
    """Give a caller an error of its own: several may wait for one resolution."""
    placed = copy.copy(error)
    placed.operation = operation.name
    placed.endpoint_name = str(arguments.parameters.get("endpoint_name") or "") or None
    return placed


def _headers_of(operation: Operation, parameters: Mapping[str, object]) -> set[str]:
    return {
        member.header.lower()
        for member in operation.request
        if member.header and parameters.get(member.parameter) is not None
    }
