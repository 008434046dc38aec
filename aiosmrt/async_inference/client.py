"""A client's part in asynchronous inference: submitting, resuming, waiting for many."""

from __future__ import annotations

import datetime
from collections.abc import AsyncGenerator, Iterable

import attrs

from aiosmrt.async_inference.input import advise_on_inline_body, stage_body
from aiosmrt.async_inference.invocation import AsyncInvocation, Polling
from aiosmrt.async_inference.results import AsyncInferenceResult, Rounds, wait_for_results
from aiosmrt.async_inference.s3 import S3
from aiosmrt.async_inference.s3_connection import OWNER, S3Connection, S3State
from aiosmrt.async_inference.s3_protocol import S3Endpoint, S3Location
from aiosmrt.calls import Call, CallBuilder, read_body, refuse, write_json_body
from aiosmrt.config import UNSIGNED, Config, Timeout
from aiosmrt.errors import AiosmrtError, ValidationError
from aiosmrt.redaction import Redacted
from aiosmrt.service import INVOKE_ENDPOINT_ASYNC, Arguments, check_names, parse_invocation
from aiosmrt.settings import (
    Settings,
    bind_parameters,
    choose_constraints,
    choose_proxy,
    judge_plain_http,
    warn_of_plain_http,
)
from aiosmrt.tracebacks import forget_locals
from aiosmrt.transport import Limits, PooledResponse

__all__ = ["AsyncInferenceClient", "S3State"]


@attrs.frozen(eq=False)
class AsyncInferenceClient:
    """Does what only asynchronous inference needs, over a client's pool and by its options.

    Args:
        builder: of the client's calls.
        s3_state: what the client's requests to S3 have in common.
    """

    _builder: CallBuilder
    _s3_state: S3State

    async def submit(self, arguments: Arguments, prefix: str | None) -> AsyncInvocation:
        """Carry out `SageMakerRuntimeClient.invoke_endpoint_async`."""
        hooks, observation = self._builder.find_hooks(), None
        if hooks is not None:
            observation = self._builder.observe(INVOKE_ENDPOINT_ASYNC, arguments, hooks)
            await observation.start()
        try:
            check_names(INVOKE_ENDPOINT_ASYNC, arguments.parameters.keys())
            place = await self._stage(arguments, prefix or self._builder.config.s3_input_prefix)
        except BaseException as error:
            if observation is not None:
                await observation.end(None, error)
            raise
        pool, caller, call = await self._builder.begin(
            INVOKE_ENDPOINT_ASYNC, arguments, observation
        )
        try:
            return await caller.call(call, pool, self._judge)
        except AiosmrtError as error:
            if place is not None:
                error.add_note(f"the body is at {place}, as an input_location")
            raise

    async def _stage(self, arguments: Arguments, prefix: str | None) -> S3Location | None:
        """Send a body through S3 that is too large to travel inline, and say where it is."""
        operation = INVOKE_ENDPOINT_ASYNC
        config = self._builder.config
        bind_parameters(operation, config.params, arguments)
        constraints = choose_constraints(config.parameter_validation)
        unlimited = "max" not in constraints
        timeout = arguments.timeout
        limits = Limits(config.timeout if timeout is None else Timeout.of(timeout, config.timeout))
        try:
            write_json_body(arguments, config.headers)
            if arguments.parameters.get("body") is None or (prefix is None and unlimited):
                return None
            return await stage_body(self.s3, arguments, prefix, limits, constraints)
        except AiosmrtError as error:
            forget_locals(error, error.__cause__)
            error.operation = error.operation or operation.name
            error.endpoint_name = str(arguments.parameters.get("endpoint_name") or "") or None
            # Nothing but S3 has been called, which may well have the object.
            error.may_have_run = False
            error.attempts = tuple(
                attrs.evolve(attempt, may_have_run=False) for attempt in error.attempts
            )
            raise

    async def _judge(self, response: PooledResponse, call: Call) -> AsyncInvocation:
        """Read the acknowledgement."""
        try:
            body = Redacted(await read_body(INVOKE_ENDPOINT_ASYNC, response, call))
        except ValidationError as error:
            if call.request.body:
                advise_on_inline_body(error)
            raise
        parsed = parse_invocation(response.head, body.value, call.describe(response.head))
        if parsed.inference_id is None and parsed.output_location is None:
            raise refuse(
                response.head,
                "the answer names neither an inference id nor an output location; check that "
                "endpoint_url is a SageMaker Runtime endpoint and no proxy answers for it",
                body.value,
            )
        call.end_attempt()
        return AsyncInvocation(
            inference_id=parsed.inference_id,
            output_location=parsed.output_location,
            failure_location=parsed.failure_location,
            endpoint_name=call.endpoint_name,
            submitted_at=datetime.datetime.now(datetime.UTC),
            metadata=call.describe(response.head),
            s3=self.s3,
            polling=self._polling,
            secrets=call.list_secrets(),
        )

    def resume(self, saved: str) -> AsyncInvocation:
        """Carry out `SageMakerRuntimeClient.resume_async_invocation`."""
        return AsyncInvocation.from_json(saved, self.s3, self._polling)

    def wait_for_results(
        self, invocations: Iterable[AsyncInvocation], seconds: float | None
    ) -> AsyncGenerator[AsyncInferenceResult]:
        """Carry out `SageMakerRuntimeClient.wait_for_results`."""
        return wait_for_results(self.s3, self._polling, invocations, seconds)

    def begin_rounds(self) -> Rounds:
        """Give what looks for results without an end, and is joined by more and more."""
        return Rounds(self.s3, self._polling, None)

    @property
    def s3(self) -> S3:
        """The S3 of inputs and outputs."""
        return S3(self._connect, self._s3_state)

    @property
    def _polling(self) -> Polling:
        return Polling(self._builder.config.poll_interval, self._builder.config.max_poll_interval)

    async def _connect(self) -> S3Connection:
        pool, caller = await self._builder.prepare()
        resolved = self._builder.resolution.resolve_now()
        settings = resolved.settings
        self._require_privacy(settings)
        return S3Connection(
            pool=pool,
            caller=caller,
            endpoint=S3Endpoint(
                region_name=resolved.region_name,
                endpoint_url=settings.s3_endpoint_url.value,
                use_fips_endpoint=settings.use_fips_endpoint.value,
                use_dualstack_endpoint=settings.use_dualstack_endpoint.value,
                use_ssl=self._builder.config.use_ssl,
            ),
            timeout=self._builder.config.timeout,
            headers=_make_headers(self._builder.config, resolved.user_agent),
            hooks=self._builder.find_hooks(),
            put_headers={
                name.lower(): value for name, value in self._builder.config.s3_put_headers.items()
            },
        )

    def _require_privacy(self, settings: Settings) -> None:
        """Refuse what `Resolution` refuses of an endpoint, once S3 is really called."""
        config, state = self._builder.config, self._s3_state
        if config.signature_version is UNSIGNED:
            return
        scheme = "https" if config.use_ssl else "http"
        url = settings.s3_endpoint_url.value or f"{scheme}://s3.amazonaws.com"
        option = f"s3_endpoint_url ({settings.s3_endpoint_url.source})"
        proxy = choose_proxy(config, url).value
        meant = judge_plain_http(url, proxy, option, use_ssl=config.use_ssl)
        if meant and not state.warned:
            state.warned = True
            warn_of_plain_http(url)


def _make_headers(config: Config, user_agent: str) -> dict[str, str]:
    """Give the headers of every request to S3."""
    headers = {"user-agent": user_agent}
    if config.s3_expected_bucket_owner is not None:
        headers[OWNER] = config.s3_expected_bucket_owner
    # Whose buckets it is about are read and listed at the caller's cost, too.
    headers |= {
        name.lower(): value
        for name, value in config.s3_put_headers.items()
        if name.lower() == "x-amz-request-payer"
    }
    return headers
