"""Takes each exchange to whoever answers it: S3, a step of the script, or the model."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Executor

import attrs

from aiosmrt.config import Credentials
from aiosmrt.errors import InternalFailure, ServiceError
from aiosmrt.local.answers import adopt_error, make_service_unavailable
from aiosmrt.local.authorization import (
    S3_SIGNING,
    SignedRequest,
    SigningRules,
    check_authorization,
    read_scope,
)
from aiosmrt.local.bearer_token import check_bearer_token
from aiosmrt.local.contents import recite
from aiosmrt.local.exchange import Exchange
from aiosmrt.local.invocation import find_operation, read_arrival, read_invocation
from aiosmrt.local.invocation_queue import InvocationQueue
from aiosmrt.local.limits import Backend, LimitedBackend, ServiceLimits
from aiosmrt.local.model import InvocationRequest
from aiosmrt.local.openai_route import OpenAIRoute, find_openai_route
from aiosmrt.local.played_backend import PlayedBackend
from aiosmrt.local.python_model import PythonModel
from aiosmrt.local.raw_answer import RawAnswer
from aiosmrt.local.received import ReceivedRequests
from aiosmrt.local.recording import RecordingBackend
from aiosmrt.local.s3 import PATH, S3, adopt_s3_error, encode_s3_error
from aiosmrt.local.sessions import SessionBackend, Sessions
from aiosmrt.local.steps import Play, Steps
from aiosmrt.local.struck_answer import send_struck, send_struck_object
from aiosmrt.plain_text import to_line
from aiosmrt.service import (
    INVOKE_ENDPOINT,
    INVOKE_ENDPOINT_ASYNC,
    INVOKE_ENDPOINT_WITH_RESPONSE_STREAM,
)
from aiosmrt.value import Shown

__all__ = ["Dispatcher", "Stage"]

logger: logging.Logger = logging.getLogger(__name__)


@attrs.frozen(repr=False)
class Stage(Shown):
    """What can stand behind the endpoint.

    Attributes:
        backend: what answers where no step does.
        built_in: whether that is nobody's own.
        executor: runs the models of steps.
        sessions: that are open.
        limits: what any of them may take and give.
    """

    backend: Backend
    built_in: bool
    executor: Executor
    sessions: Sessions
    limits: ServiceLimits | None

    def find(self, play: Play) -> Backend:
        """Give what answers a request as a step has it."""
        content = play.content
        if content is None and self.built_in and play.needs_parts:
            position = 1 if play.fault is None else play.fault.position
            content = recite(max(position, len(play.delays)))
        backend = self.backend
        if content is not None:
            backend = SessionBackend(PythonModel(content, self.executor), self.sessions)
        if self.limits is not None:
            backend = LimitedBackend(backend, self.limits)
        return PlayedBackend(backend, play) if play.needs_parts else backend


@attrs.define(eq=False, repr=False)
class Dispatcher(Shown):
    """Answers exchanges, as many at a time as come.

    Args:
        stage: what stands behind the endpoint.
        steps: what the script says.
        strict: whether a request without a step is refused.
        queue: of asynchronous invocations.
        s3: the local one; `None` where it is elsewhere.
        credentials: the key pair that requests are signed with; `None` where they need not be.
        rules: of their signatures.
        requests: where they are kept.
        keep: how many of them.
    """

    stage: Stage
    steps: Steps
    strict: bool
    queue: InvocationQueue
    s3: S3 | None
    credentials: Credentials | None
    rules: SigningRules
    requests: ReceivedRequests
    keep: int

    async def handle(self, exchange: Exchange) -> None:
        """Answer, whatever happens, and write a line to the log."""
        try:
            route = find_openai_route(exchange.path)
            if self.s3 is not None and _is_for_s3(exchange):
                await self._answer_s3(self.s3, exchange)
            else:
                await self._answer(exchange, route)
        except ConnectionError:
            logger.debug("the client hung up on %r", exchange.path)
        except ServiceError as error:
            await self._refuse(exchange, error)
        except Exception:
            logger.exception("the local endpoint failed on %r", exchange.path)
            failure = InternalFailure("The local endpoint failed; its log says why.", status=500)
            await self._refuse(exchange, failure)
        finally:
            ended = exchange.status or "no answer"
            told = f"{exchange.step}, {ended}" if exchange.step else ended
            path = to_line(exchange.path)
            logger.info("%s %s: %s [%s]", exchange.method, path, told, exchange.request_id)

    async def _refuse(self, exchange: Exchange, error: ServiceError) -> None:
        if exchange.response.prepared:
            exchange.request.protocol.force_close()  # the head has gone out, and there are no words
            return
        try:
            await exchange.send_error(error)
        except ConnectionError:
            logger.debug("the client hung up on %r", exchange.path)

    async def _answer(self, exchange: Exchange, route: OpenAIRoute | None) -> None:
        if exchange.method == "GET" and exchange.path == "/ping":
            if not await self.stage.backend.is_ready():
                raise make_service_unavailable("The model container does not answer its /ping.")
            await exchange.send(200, {}, b"")
            return
        try:
            request = await self._read(exchange, route)
        except ServiceError as error:
            self.steps.note_refusal(f"{exchange.method} {exchange.path}", error)
            raise
        await self._play(exchange, request)

    async def _read(self, exchange: Exchange, route: OpenAIRoute | None) -> InvocationRequest:
        if route is not None:
            body = await exchange.receive(INVOKE_ENDPOINT.parameters["body"].shape.max)
            if self.credentials is not None:
                check_bearer_token(exchange.headers, self.credentials, exchange.now, self.rules)
            return route.read(exchange.method, exchange.headers, body)
        operation, endpoint_name = find_operation(exchange.method, exchange.path)
        body = await exchange.receive(operation.parameters["body"].shape.max)
        self._check(exchange, body, self.rules)
        return read_invocation(operation, endpoint_name, exchange.headers, body)

    def _take_step(self, exchange: Exchange, request: InvocationRequest) -> Play | None:
        step = self.steps.take(request)
        if self.steps.find_connection_step() is not None:
            exchange.response.force_close()
        if step is None:
            return None
        exchange.step = step.words
        return step.play

    def _find_play(self, exchange: Exchange, request: InvocationRequest) -> Play:
        if (play := self._take_step(exchange, request)) is not None:
            return play
        if self.strict:
            said = self.steps.refuse(request)
            raise ServiceError(said, code="UnexpectedRequest", status=400)
        return Play()

    async def _play(self, exchange: Exchange, request: InvocationRequest) -> None:
        request = read_arrival(request, exchange.headers, exchange.request_id)
        request = await self.queue.fetch(request)  # steps and tests may ask for what is in it
        self.requests.append(request)
        del self.requests[: max(0, len(self.requests) - self.keep)]
        play = self._find_play(exchange, request)
        if play.refusal is not None:
            raise adopt_error(play.refusal, request.endpoint_name)
        if play.needs_rule:
            play = play.happen_to(self.steps.find_rule(request))
        if await self._end_early(exchange, play):
            return
        backend = self.stage.find(play)
        recorder = self.steps.recorder
        if recorder is not None and play == Play():
            backend = RecordingBackend(backend, recorder)
        if request.operation == INVOKE_ENDPOINT_ASYNC.name:
            await exchange.send_queued(self.queue.put(request, backend.answer))
            return
        async with backend.answer(request) as answer:
            if play.fault is not None:
                await send_struck(exchange, request, answer, play.fault)
            elif request.operation != INVOKE_ENDPOINT_WITH_RESPONSE_STREAM.name:
                await exchange.send_whole(request, answer)
            elif request.has_frames:
                await exchange.send_stream(request, answer)
            else:
                await exchange.send_plain_stream(answer)

    async def _end_early(self, exchange: Exchange, play: Play) -> bool:
        """Do what a step does in place of an answer, and say whether it has done so."""
        if play.page is not None:
            await exchange.send_page(play.page)
            return True
        if play.fault is not None and play.fault.position == 0:
            await play.fault.strike(RawAnswer(exchange.request), b"")
            return True
        return False

    async def _answer_s3(self, s3: S3, exchange: Exchange) -> None:
        body = await exchange.receive(None)
        play = Play()
        try:
            call = s3.read(self._check(exchange, body, S3_SIGNING))
            request = read_arrival(call.invocation, exchange.headers, exchange.request_id)
            play = self._take_step(exchange, request) or play
            if play.refusal is not None:
                raise adopt_s3_error(adopt_error(play.refusal, ""))
            if await self._end_early(exchange, play):
                return
            if play.delays:
                await asyncio.sleep(max(play.delays))  # it is one part
            answer = await s3.answer(call)
        except ServiceError as error:
            answer = encode_s3_error(error, exchange.path, exchange.request_id)
        exchange.response.headers["x-amz-request-id"] = exchange.request_id
        if play.fault is not None:
            await send_struck_object(exchange, answer, play.fault)
        else:
            await exchange.send(answer.status, answer.headers, answer.body)

    def _check(self, exchange: Exchange, body: bytes, rules: SigningRules) -> SignedRequest:
        request = SignedRequest(exchange.method, exchange.target, exchange.headers, body)
        if self.credentials is not None:
            check_authorization(request, self.credentials, exchange.now, rules)
        return request


def _is_for_s3(exchange: Exchange) -> bool:
    """Tell whether it is S3 that is asked: by the place, or the service that it is signed for.

    So one URL is enough for a client of both (`AWS_ENDPOINT_URL`).
    """
    if f"{exchange.path}/".startswith(f"{PATH}/"):
        return True
    request = SignedRequest(exchange.method, exchange.target, exchange.headers, b"")
    return read_scope(request)[1] == S3_SIGNING.service
