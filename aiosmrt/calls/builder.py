"""What turns a client's options and the parameters of a call into that call."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Mapping
from typing import ClassVar, Protocol
from urllib.parse import quote

import attrs

from aiosmrt.calls.call import NO_HOOKS, Call
from aiosmrt.calls.caller import Caller, Shared
from aiosmrt.calls.observation import Observation
from aiosmrt.calls.request_body import collect_body, write_json_body
from aiosmrt.calls.retries import PerEndpoint
from aiosmrt.calls.turns import Line, Turn
from aiosmrt.config import Config, RetryPolicy, Timeout
from aiosmrt.errors import AiosmrtError
from aiosmrt.hooks import Hooks
from aiosmrt.models import ConcurrencyLimit
from aiosmrt.service import (
    Arguments,
    ClientOptions,
    Operation,
    build_request,
    check_headers,
    check_names,
    check_parameters,
)
from aiosmrt.settings import (
    IDENTITY,
    RESOLVED,
    Resolution,
    bind_parameters,
    choose_constraints,
    default_context,
)
from aiosmrt.signing import Clock, CredentialProvider, TokenProvider
from aiosmrt.tracebacks import forget_locals
from aiosmrt.transport import Limits, Pool, PoolOptions, Pools

__all__ = ["CallBuilder", "Telemetry"]


# What a trace id may hold as it is (botocore's list); the rest is percent-encoded.
_IN_TRACE_ID = "-=;:+&[]{}\"',"


class Telemetry(Protocol):
    """Who observes calls beside the hooks of their client."""

    def find_hooks(self) -> Hooks | None:
        """Give whom to tell of a call that begins now; `None` for nobody. Asked at each call."""
        ...


@attrs.define(eq=False, repr=False)
class CallBuilder:
    """The options of a client, what they come to, and the calls that are made by them.

    Attributes:
        config: the options.
        pools: the connections, which clients that were derived from each other share.
        resolution: what the options come to.
        credentials: who signs.
        tokens: what they are made into, for people's own requests.
        shared: what the calls have in common.
        telemetry: who observes the calls beside the hooks; it costs next to nothing where nobody
            listens.
        every_telemetry: the same, of all clients of the process that have none of their own.
        default_retry: the policy where the options have none, in place of that of the settings.
    """

    every_telemetry: ClassVar[Telemetry | None] = None

    config: Config
    pools: Pools
    resolution: Resolution
    credentials: CredentialProvider
    shared: Shared
    telemetry: Telemetry | None = None
    default_retry: RetryPolicy | None = None
    tokens: TokenProvider = attrs.field(factory=TokenProvider, init=False)
    _caller: Caller | None = attrs.field(default=None, init=False)
    _joined: tuple[Hooks, Hooks] | None = attrs.field(default=None, init=False)

    @classmethod
    def of(cls, config: Config) -> CallBuilder:
        """Begin with options alone; nothing is read or opened."""
        resolution = Resolution(config)
        shared = Shared(clock=Clock(config.system_clock_offset))
        return cls(
            config=config,
            pools=Pools(),
            resolution=resolution,
            credentials=_provide_credentials(config, resolution, shared.clock),
            shared=shared,
        )

    def derive(self, config: Config, options: ClientOptions) -> CallBuilder:
        """Give one with other options over the same connections; `options` are what differs."""
        derived = attrs.evolve(self, config=config)
        if not options.keys().isdisjoint(RESOLVED):
            derived.resolution = Resolution(config)
        if "system_clock_offset" in options:
            derived.shared = attrs.evolve(self.shared, clock=Clock(config.system_clock_offset))
        if not options.keys().isdisjoint(IDENTITY):
            derived.credentials = _provide_credentials(
                config, derived.resolution, derived.shared.clock
            )
        return derived

    async def begin(
        self,
        operation: Operation,
        arguments: Arguments,
        observation: Observation | None = None,
        turn: Turn | None = None,
    ) -> tuple[Pool, Caller, Call]:
        """Check a call's parameters and put the call together; nothing is sent yet.

        Args:
            operation: of the call.
            arguments: of the call.
            observation: of a call that has begun before.
            turn: the call's place among those to its endpoint.

        Raises:
            TypeError: a keyword that the operation does not have.
            AiosmrtError: what else is wrong with the parameters, the options or the settings.
        """
        began = time.perf_counter()
        bind_parameters(operation, self.config.params, arguments)
        if observation is None and (hooks := self.find_hooks()) is not None:
            observation = self.observe(operation, arguments, hooks)
        if observation is not None:
            await observation.start()
        try:
            check_names(operation, arguments.parameters.keys())
            if arguments.json is not None:
                write_json_body(arguments, self.config.headers)
            pool, caller, call = await self._put_together(operation, arguments, began, observation)
        except AiosmrtError as error:
            forget_locals(error, error.__cause__)
            placed = _place(error, operation, arguments)
            try:
                if observation is not None:
                    await observation.end(None, placed)
                raise placed from error.__cause__
            finally:
                del placed  # or this frame and it would keep each other
        except BaseException as error:
            if observation is not None:
                await observation.end(None, error)
            raise
        call.turn = turn
        return pool, caller, call

    async def find_line(self, arguments: Arguments) -> Line:
        """Find the line of those who call a call's endpoint in turn, on this event loop.

        Raises:
            ConfigurationError: an option, a variable or a profile cannot be used.
            ClientClosed: the client was closed.
        """
        pool = self.pools.find()
        if pool is None:
            pool, _ = await self.prepare()
        lines = self.shared.lines.get(pool)
        if lines is None:
            most = pool.limit  # not by way of the pool, which its lines are not to keep
            lines = self.shared.lines[pool] = PerEndpoint(lambda: Line(most))
        name = arguments.parameters.get("endpoint_name", self.config.params.get("endpoint_name"))
        line = lines[str(name)]
        line.endpoint_name = str(name)
        return line

    def describe_limits(self) -> dict[str, ConcurrencyLimit]:
        """Tell how many calls each endpoint is given at a time, where that is found out."""
        found = {}
        for lines in tuple(self.shared.lines.values()):
            found.update({name: line.concurrency.limit for name, line in tuple(lines.items())})
        return found

    def find_hooks(self) -> Hooks | None:
        """Give whom to tell of a call that begins now."""
        hooks = self.config.hooks
        telemetry = self.telemetry or self.every_telemetry
        observers = None if telemetry is None else telemetry.find_hooks()
        if observers is None or hooks is None:
            return hooks if observers is None else observers
        if self._joined is None or self._joined[0] is not observers:
            # What the hooks see of a call's end is still within what telemetry makes of the call,
            # and its trace stands behind what a hook has set.
            inner = hooks.followed_by(observers)
            both = attrs.evolve(
                observers.followed_by(hooks), before_send=inner.before_send, on_end=inner.on_end
            )
            self._joined = observers, both
        return self._joined[1]

    def observe(self, operation: Operation, arguments: Arguments, hooks: Hooks) -> Observation:
        """Give what tells the observers of a call."""
        name = arguments.parameters.get("endpoint_name", self.config.params.get("endpoint_name"))
        return Observation(hooks, operation.name, str(name or ""))

    def refuse(self, operation: Operation, arguments: Arguments, error: TypeError) -> None:
        """Tell the observers of a call that was refused before there was anything to await."""
        hooks = self.find_hooks()
        if hooks is not None:
            self.observe(operation, arguments, hooks).refuse(error)

    async def _put_together(
        self,
        operation: Operation,
        arguments: Arguments,
        began: float,
        observation: Observation | None,
    ) -> tuple[Pool, Caller, Call]:
        config, given = self.config, arguments.timeout
        timeout = config.timeout if given is None else Timeout.of(given, config.timeout)
        pool, caller = self.pools.find(), self._caller
        limits = Limits(timeout, None if pool is None else pool.alarm)
        constraints = choose_constraints(config.parameter_validation)
        if (
            arguments.parameters.get("body").__class__ is not bytes
            and "body" in arguments.parameters
        ):
            shape = operation.parameters["body"].shape
            limit = shape.max if "max" in constraints else None
            with limits:
                limits.note("the body")
                arguments.parameters["body"] = await collect_body(
                    arguments.parameters["body"], limit
                )
        check_parameters(operation, arguments.parameters, constraints=constraints)
        if config.headers or arguments.headers:
            arguments.headers = {**config.headers, **arguments.headers}
            check_headers(arguments.headers, _headers_of(operation, arguments.parameters))
        if pool is None or caller is None:
            pool, caller = await self.prepare()
        resolved = self.resolution.resolve_now()
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
            hooks=NO_HOOKS if observation is None else observation.hooks,
            began=began,
            observation=observation,
        )
        return pool, caller, call

    async def prepare(self) -> tuple[Pool, Caller]:
        """Give the running loop's pool, and who makes calls over it; settings are read meanwhile.

        Raises:
            ConfigurationError: an option, a variable or a profile cannot be used.
            ClientClosed: the client was closed.
        """
        resolved = await self.resolution.resolve()
        pool = await self.pools.make(
            PoolOptions(
                max_connections=self.config.max_connections,
                keep_alive=self.config.keep_alive,
                max_connection_age=self.config.max_connection_age,
                tls=resolved.tls,
                load_tls=default_context.load,
                proxy_tls=resolved.proxy_tls,
                session=self.config.session,
                proxy=self.config.proxy,
                environ=os.environ,
                proxy_headers=self.config.proxy_headers,
            )
        )
        if self._caller is None:
            self._caller = Caller(
                signer=resolved.signer,
                credentials=self.credentials,
                retry=self._choose_retry(resolved.retry),
                shared=self.shared,
                correct_clock_skew=self.config.correct_clock_skew,
                place=resolved.describe_place(),
                region_name=resolved.region_name,
            )
        return pool, self._caller

    def _choose_retry(self, resolved: RetryPolicy) -> RetryPolicy:
        default = self.default_retry
        return resolved if default is None or self.config.retry is not None else default


def _provide_credentials(
    config: Config, resolution: Resolution, clock: Clock
) -> CredentialProvider:
    return CredentialProvider(
        credentials=config.credentials,
        access_key_id=config.aws_access_key_id,
        secret_access_key=config.aws_secret_access_key,
        session_token=config.aws_session_token,
        profile_name=config.profile_name,
        region_name=lambda: resolution.resolve_now().region_name,
        correction=clock,
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
