"""The client: three operations over one pool of connections."""

from __future__ import annotations

import asyncio
import warnings
import weakref
from collections.abc import AsyncGenerator, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, overload

import attrs

from aiosmrt.calls import CallBuilder, invoke
from aiosmrt.config import UNSIGNED, Config
from aiosmrt.errors import ConfigurationError
from aiosmrt.hooks import Hooks
from aiosmrt.models import (
    AsyncInferenceOutput,
    BearerToken,
    ClientStats,
    InvokeEndpointResponse,
)
from aiosmrt.redaction import Redacted
from aiosmrt.service import (
    INVOKE_ENDPOINT,
    INVOKE_ENDPOINT_ASYNC,
    INVOKE_ENDPOINT_WITH_RESPONSE_STREAM,
    OPERATIONS,
    Arguments,
    ClientOptions,
    InvokeEndpointAsyncParameters,
    InvokeEndpointParameters,
    InvokeEndpointWithResponseStreamParameters,
    SessionBody,
    SessionParameters,
    check_names,
    place_openai_route,
    respell,
)
from aiosmrt.settings import choose_constraints, configure, refuse_pool_options
from aiosmrt.tracebacks import hides_locals

if TYPE_CHECKING:
    from aiosmrt.async_inference import (
        AsyncInferenceClient,
        AsyncInferenceResult,
        AsyncInvocation,
        S3State,
    )
    from aiosmrt.batch import Batch, Inputs
    from aiosmrt.response_stream import ResponseStream, ResponseStreamOpening
    from aiosmrt.sessions import StatefulSession

__all__ = ["SageMakerRuntimeClient"]


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
        self._builder = CallBuilder.of(configure(Config() if config is None else config, options))
        self._owner: SageMakerRuntimeClient | None = None  # of the pools, if it is another client
        self._providers = weakref.WeakSet([self._builder.credentials])
        self._s3_state: S3State | None = None

    @hides_locals
    def with_options(
        self, *, replace_hooks: Hooks | None = None, **options: Unpack[ClientOptions]
    ) -> SageMakerRuntimeClient:
        """Give a client with other options over the same pool; closing it closes nothing.

        Args:
            replace_hooks: hooks in place of the client's, which `hooks` are added to; `Hooks()`,
                or `hooks=None`, for none.
            options: the fields of `aiosmrt.Config`, but those that shape the pool.

        Raises:
            TypeError: an option that does not exist, or that shapes the pool.
            ConfigurationError: an option whose value cannot be used.
        """
        refuse_pool_options(options)
        config = self._builder.config
        if replace_hooks is not None:
            config = configure(configure(config, {"hooks": None}), {"hooks": replace_hooks})
        config = configure(config, options)
        derived = self.__class__.__new__(self.__class__)
        derived.__dict__ |= self.__dict__
        # Kept alive, so that somebody is left to close the pools, or to warn.
        derived._owner = self._owner or self  # noqa: SLF001 - of this very class
        derived._builder = self._builder.derive(config, options)  # noqa: SLF001
        derived._s3_state = None  # noqa: SLF001
        self._providers.add(derived._builder.credentials)  # noqa: SLF001
        return derived

    @property
    def region_name(self) -> str:
        """The region that was resolved; errors as `endpoint_url`."""
        return self._builder.resolution.resolve_now().region_name

    @property
    def endpoint_url(self) -> str:
        """The URL that was resolved.

        Raises:
            ConfigurationError: it cannot be resolved, or not without blocking the event loop:
                before the first call and with shared config files, `await warm_up()` first.
        """
        return self._builder.resolution.resolve_now().endpoint_url

    def openai_base_url(
        self, endpoint_name: str, inference_component_name: str | None = None
    ) -> str:
        """Give what an OpenAI client takes as `base_url`, beside `api_key=client.bearer_token`.

        It is on the host of the three operations, whichever that is: AWS documents neither FIPS
        nor dual-stack hosts nor PrivateLink for this route.

        Args:
            endpoint_name: the endpoint; its container must serve `/v1/chat/completions`.
            inference_component_name: the component, for an endpoint that has some.

        Raises:
            ParameterError: a name that there cannot be.
            ConfigurationError: as `endpoint_url`.
        """
        constraints = choose_constraints(self._builder.config.parameter_validation)
        names = (endpoint_name, inference_component_name)
        return place_openai_route(self.endpoint_url, *names, constraints=constraints)

    async def bearer_token(self, *, expires_in: int = 900, refresh: bool = False) -> BearerToken:
        """Give a token for SageMaker's OpenAI-compatible route, made here of the credentials.

        It is good for every endpoint in the client's region that the credentials may invoke, if
        they have the right `sagemaker:CallWithBearerToken`, too. The one that was made last is
        given again until a minute before its end (a tenth of its life, if that is less), or until
        the credentials change.

        Args:
            expires_in: seconds that a new one lives, 1 to 43,200 (12 hours). It never lives longer
                than its credentials: its `expires_at` says for how long, and the log why.
            refresh: whether the one at hand was refused. Nobody else tells the client: its
                credentials are then fetched anew, as after a call that was refused, and a new
                token is made.

        Raises:
            ParameterError: there is no such life.
            ConfigurationError: the client does not sign, or as for `invoke_endpoint`.
            CredentialsError: there are no credentials, or none within `Timeout.credentials`.
            ClientClosed: the client was closed meanwhile.
        """
        builder = self._builder
        resolved = await builder.resolution.resolve()
        if resolved.signer is None:
            raise ConfigurationError(
                "A bearer token is a signature, and signature_version=UNSIGNED says that there is "
                "none: use a client that has credentials."
            )
        return await builder.tokens.get(
            builder.credentials,
            resolved.region_name,
            expires_in,
            limit=builder.config.timeout.credentials,
            refresh=refresh,
        )

    @property
    def clock_offset(self) -> float:
        """Seconds that are added to this machine's time when requests are signed.

        At first `system_clock_offset`; then what a refused signature has taught.
        """
        return self._builder.shared.clock.offset

    def stats(self) -> ClientStats:
        """Tell what the client and those derived from it are busy with now."""
        limits = self._builder.describe_limits()
        return attrs.evolve(self._builder.pools.count(), limits=limits)

    async def warm_up(self, *, connections: int = 0) -> None:
        """Do what the first calls would have to wait for: settings, credentials, connections.

        Args:
            connections: how many are to be open, TLS included; at most `max_connections`. What is
                not used is closed after `keep_alive` seconds.

        Raises:
            ConfigurationError: an option, a variable or a profile cannot be used.
            CredentialsError: there are no credentials, or none within `Timeout.credentials`.
            ClientClosed: the client was closed meanwhile.
            TransportError: a connection could not be made.
        """
        if connections.__class__ is not int or connections < 0:
            raise ConfigurationError(f"connections={connections!r}: an int of 0 or more")
        builder = self._builder
        pool, _ = await builder.prepare()
        if builder.config.signature_version is not UNSIGNED:
            await builder.credentials.get(builder.config.timeout.credentials)
        if connections:
            origin = builder.resolution.resolve_now().origin
            await pool.open(origin, connections, builder.config.timeout)

    async def invoke_endpoint(
        self, **parameters: Unpack[InvokeEndpointParameters]
    ) -> InvokeEndpointResponse:
        """Invoke a model and wait for its whole answer.

        Args:
            parameters: `endpoint_name` and `body` (up to 6,291,456 bytes; text is sent as UTF-8)
                and the other members of InvokeEndpoint; in place of `body`, `json` is a value to
                be written as JSON, of `application/json` unless `content_type` or a header says
                otherwise, and `None` is none; `headers` for a field newer than this release;
                `timeout` for this call, a number being its total in seconds.

        Raises:
            TypeError: a keyword that the operation does not have.
            ParameterError: every constraint that the parameters break; nothing was sent.
            ConfigurationError, CredentialsError: the client cannot be used as it is.
            ServiceError: the service refused or failed; `ModelError` is the model's own failure.
            TransportError: no answer; `may_have_run` says whether the model may have run.
            UnexpectedResponse: an answer that is not SageMaker's.
            ClientClosed: the client was closed.
        """
        arguments = Arguments(parameters)
        del parameters
        return await invoke(self._builder, arguments)

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
            parameters: `endpoint_name`, exactly one of `body` (up to 128,000 bytes travel inline),
                `json` and `input_location`, and the other members of InvokeEndpointAsync; `json`,
                `headers` and `timeout` as for `invoke_endpoint`.

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
        from aiosmrt.async_inference import AsyncInferenceClient, S3State  # noqa: PLC0415 - start-up time

        if self._s3_state is None:
            self._s3_state = S3State()
        # It refers to the client, which must not refer to it in turn: a client that nobody holds
        # any longer is to be noticed at once.
        return AsyncInferenceClient(self._builder, self._s3_state)

    def invoke_endpoint_with_response_stream(
        self, **parameters: Unpack[InvokeEndpointWithResponseStreamParameters]
    ) -> ResponseStreamOpening:
        """Invoke a model that answers in parts.

        Nothing happens until the returned object is entered (`async with ... as stream`) or
        awaited. Both wait for the first frame, so an early failure is raised there.

        Args:
            parameters: `endpoint_name` and `body` or `json`, as for `invoke_endpoint`.

        Raises:
            TypeError: a keyword that the operation does not have; everything else when opened,
                as `invoke_endpoint`, and `EventStreamError` for frames that are not sound.
        """
        from aiosmrt.response_stream import ResponseStreamOpening, begin_response_stream  # noqa: PLC0415 - start-up time

        operation = INVOKE_ENDPOINT_WITH_RESPONSE_STREAM
        arguments = Arguments(parameters)
        del parameters
        try:
            check_names(operation, arguments.parameters.keys())
        except TypeError as error:
            self._builder.refuse(operation, arguments, error)
            raise

        return ResponseStreamOpening(lambda: begin_response_stream(self._builder, arguments))

    @hides_locals
    def session(
        self,
        *,
        open_body: SessionBody | None = None,
        close_body: SessionBody | None = None,
        reopen: bool = False,
        in_order: bool = True,
        close_timeout: float = 5.0,
        **parameters: Unpack[SessionParameters],
    ) -> StatefulSession:
        """Give a stateful session, to be used in `async with`; nothing is sent yet.

        Its first call opens it, every further one sends its id, and its end closes it.

        Args:
            open_body: what asks the container for a session, where that takes a call of its own,
                as AWS's with vLLM and LMI: `{"requestType": "NEW_SESSION"}`. Without it the first
                `invoke_endpoint` opens the session with a body of yours.
            close_body: what asks the container to close it, such as `{"requestType": "CLOSE"}`.
                Without it nothing is sent at the end, and the session ends at its time.
            reopen: whether a call for which the session has ended opens another one, whose model
                knows nothing of the calls before; else it raises `SessionExpired`.
            in_order: whether each call waits for those before it. Otherwise they only wait for
                the session to be open.
            close_timeout: seconds that closing may take.
            parameters: of all calls: `endpoint_name`, unless the client's `params` have it, and
                what else routes them; a call's own win.

        Raises:
            TypeError: a parameter that is not for a whole session.
            ParameterError: no endpoint is named.
            ConfigurationError: an option whose value cannot be used.
        """
        from aiosmrt.sessions import StatefulSession  # noqa: PLC0415 - start-up time

        named: Any = self._builder.config.params.get("endpoint_name")
        common: SessionParameters = {"endpoint_name": named, **parameters}
        return StatefulSession(
            self,
            common,
            timeout=self._builder.config.timeout,
            open_body=open_body,
            close_body=close_body,
            reopen=reopen,
            in_order=in_order,
            close_timeout=close_timeout,
        )

    @overload
    def map(
        self,
        inputs: Inputs,
        *,
        operation: Literal[
            "invoke_endpoint", "invoke_endpoint_with_response_stream"
        ] = "invoke_endpoint",
        max_in_flight: int | Literal["auto"] = 32,
        ordered: bool = False,
        max_failures: float | None = None,
        result_timeout: float | None = 900.0,
    ) -> Batch[InvokeEndpointResponse]: ...

    @overload
    def map(
        self,
        inputs: Inputs,
        *,
        operation: Literal["invoke_endpoint_async"],
        max_in_flight: int | Literal["auto"] = 32,
        ordered: bool = False,
        max_failures: float | None = None,
        result_timeout: float | None = 900.0,
    ) -> Batch[AsyncInferenceOutput]: ...

    def map(
        self,
        inputs: Inputs,
        *,
        operation: Literal[
            "invoke_endpoint", "invoke_endpoint_with_response_stream", "invoke_endpoint_async"
        ] = "invoke_endpoint",
        max_in_flight: int | Literal["auto"] = 32,
        ordered: bool = False,
        max_failures: float | None = None,
        result_timeout: float | None = 900.0,
    ) -> Batch[InvokeEndpointResponse | AsyncInferenceOutput]:
        """Carry many requests out: an asynchronous iterator of their outcomes, each row once.

        A row that fails is an outcome with its error, and stops nothing. Where the client was given
        no `retry`, a row has 30 attempts and no quota, so that none is lost to throttling.

        Args:
            inputs: requests, as dicts of the operation's parameters, or pairs of a key and a
                request; any iterable, or an asynchronous one. The next is pulled when a place comes
                free, on the event loop: what has to wait for its rows is to be asynchronous.
            operation: the method that each row goes through. A stream is read to its end, and given
                whole; an asynchronous invocation is submitted, and its output waited for, of all
                rows together as by `wait_for_results`. Two rows with one `filename` or
                `inference_id` have one output: the second is refused.
            max_in_flight: how many rows may be on their way at a time, those that are done and not
                taken yet included. `"auto"` finds out how many calls the endpoint takes, up to
                `max_connections`: more as long as more answers come of it, and fewer where some are
                throttled or latency rises. All batches of this client with `"auto"` share what is
                found out. A throttled row then waits in its place, which is no retry.
            ordered: whether outcomes are given in the order of the inputs, not as they are there: a
                row that is slow then holds up those behind it.
            max_failures: how many rows may fail, an int, or which share of them (of a hundred at
                least), a float below 1.0, before the batch stops; `None` for any number.
            result_timeout: seconds that an asynchronous invocation may take; `None` is no limit.

        Raises:
            ConfigurationError: an option that cannot be used.
            TypeError: `inputs` is no iterable, or one request. What stops a batch is raised by the
                iterator, see `aiosmrt.batch.Batch`.
        """
        from aiosmrt.batch import Bounds, begin  # noqa: PLC0415 - start-up time

        bounds = Bounds(
            max_in_flight=max_in_flight,
            max_failures=max_failures,
            ordered=ordered,
            result_timeout=result_timeout,
        )
        return begin(self._builder, inputs, operation, bounds)

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
            parameters: such as `{"EndpointName": "my-endpoint", "Body": b"..."}`; what the service
                has no name for (`json`, `headers`, `timeout`) is for the methods.

        Returns:
            What the method of that name gives; a response stream is open, and yours to close.

        Raises:
            TypeError: there is no such operation, or it has no such parameter.
            AiosmrtError: as the method of that name.
        """
        given = Redacted(parameters)
        del parameters
        # The methods check names and types; a TypedDict cannot be built from a mapping.
        respelled: Redacted[dict[str, Any]] = Redacted({})
        try:
            respelled.value.update(respell(operation, given.value))
        except TypeError as error:
            if operation in OPERATIONS:
                named: Any = {"endpoint_name": given.value.get("EndpointName")}
                self._builder.refuse(OPERATIONS[operation], Arguments(named), error)
            raise
        if operation == INVOKE_ENDPOINT.name:
            return await self.invoke_endpoint(**respelled.value)
        if operation == INVOKE_ENDPOINT_ASYNC.name:
            return await self.invoke_endpoint_async(**respelled.value)
        return await self.invoke_endpoint_with_response_stream(**respelled.value)

    async def aclose(self, grace: float = 0.0) -> None:
        """Close the connections and end calls in flight with `ClientClosed`. Idempotent.

        On a client that `with_options` gave, this does nothing.

        Args:
            grace: seconds that calls in flight and open streams are given to finish before that;
                no further call is taken meanwhile.
        """
        if self._owner is None:
            await self._builder.pools.aclose(grace)
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

    def __reduce__(self) -> str:
        raise TypeError(
            f"a {type(self).__name__} cannot be pickled or copied, since it holds sockets: make "
            "one of its own in each process; with_options() gives another one over the same pool"
        )

    def __repr__(self) -> str:
        # One whose constructor has failed is shown by tracebacks.
        builder = getattr(self, "_builder", None)
        resolved = None if builder is None else builder.resolution.resolved
        where = "not resolved yet" if resolved is None else resolved.endpoint_url
        return f"<{type(self).__name__} {where}>"

    def __del__(self) -> None:
        builder = getattr(self, "_builder", None)
        if builder is not None and self._owner is None and builder.pools.open:
            warnings.warn(
                f"{self!r} was never closed: use it in an async with block, or await its aclose()",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
