"""A SageMaker Runtime endpoint on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

import attrs
from aiohttp import web

from aiosmrt.config import Credentials
from aiosmrt.errors import ConfigurationError
from aiosmrt.local.answers import BUCKET
from aiosmrt.local.authorization import SAGEMAKER_SIGNING
from aiosmrt.local.container import Container, open_session
from aiosmrt.local.dispatcher import Dispatcher, Stage
from aiosmrt.local.exchange import Exchange
from aiosmrt.local.forwarding import Forwarding
from aiosmrt.local.invocation_queue import InvocationQueue
from aiosmrt.local.limits import Backend, ServiceLimits
from aiosmrt.local.listener import Listener
from aiosmrt.local.loop_thread import LoopThread
from aiosmrt.local.model import Model, echo
from aiosmrt.local.objects import ObjectStore
from aiosmrt.local.python_model import PythonModel
from aiosmrt.local.received import ReceivedRequests
from aiosmrt.local.s3 import PATH, S3
from aiosmrt.local.script import Script
from aiosmrt.local.sessions import SessionBackend, Sessions
from aiosmrt.local.storage import LocalStorage, S3Storage, Storage
from aiosmrt.redaction import redact_url
from aiosmrt.service import ClientOptions
from aiosmrt.settings import is_exposed

if TYPE_CHECKING:
    import ssl

    from aiosmrt.client import SageMakerRuntimeClient

__all__ = ["LocalEndpoint"]

logger: logging.Logger = logging.getLogger(__name__)

# Threads for synchronous models, of our own: a model that waits in a thread of the loop's pool
# could starve a blocking client that waits there for the model.
_THREADS = 32

# Seconds for a connection that is neither idle nor in a call: one whose rest is being discarded.
_LINGER = 0.5


class LocalEndpoint(Script):
    """A real HTTP server that speaks SageMaker Runtime's three operations to any SDK.

    It speaks the OpenAI-compatible route to OpenAI's, too.

    InvokeEndpointAsync is carried out: input comes from, and output or failure goes to, a small
    S3 in memory, served in path style at `<url>/s3`, or an S3 elsewhere.

    ::

        async with LocalEndpoint(model) as endpoint:
            async with endpoint.client() as client: ...

    Entering it listens; leaving it ends calls in flight and waits for the models that still run
    in threads. With `with`, it needs no event loop: it runs in a thread that has one. Its script is
    that of `Script`, for tests.

    Args:
        model: a function of one `InvocationRequest`; `None` is the built-in `echo`.
        upstream: what answers instead of a model: the URL of a model container with `/ping` and
            `/invocations`, or a client of this package, whose endpoints in SageMaker are called.
        host: the address to listen on.
        port: 0 picks a free one.
        auth: whether requests must be signed with the key pair, or carry a token of it.
        region_name: the only region whose signatures and tokens are taken; `None` is each of them.
        access_key_id: of the one key pair that is known; `local` where it is `None`.
        secret_access_key: of the same; `local-secret` where it is `None`.
        strict: whether a request is refused that no step of the script is for, in place of the
            model's answer.
        keep_requests: how many of the latest requests `requests` holds.
        workers: how many asynchronous invocations run at a time; the others are queued.
        s3_list_permission: whether callers have `s3:ListBucket`. Without it the local S3 answers
            403 AccessDenied for an object that does not exist, as S3 does, and with it 404.
        s3_endpoint_url: of an S3 to use in path style instead of one in memory, with the key pair
            where one is given, else with the credentials that a client finds. Outputs go into its
            bucket `aiosmrt-local`, which is made where it is missing.
        service_limits: what a model may take and give; `None`, the default, is no limit.
        session_seconds: how long a session lasts whose model does not say when it ends. A request
            of a session that is not open is a ModelError, unless there is an `upstream`, which
            knows its own.
        tls: a server's context, for https.

    Attributes:
        requests: each `InvocationRequest` that passed signature and validation, oldest first: a
            list that finds some by their members (`where`), and the only one (`only`). The body of
            an asynchronous invocation is what was at its location when it came.
        objects: what the local S3 holds.

    Raises:
        ConfigurationError: contradicting arguments; on entering, an address that cannot be used.
        RuntimeError: on entering, it runs already.
        AiosmrtError: on entering, the S3 at `s3_endpoint_url` cannot be used.
    """

    def __init__(
        self,
        model: Model | None = None,
        *,
        upstream: str | SageMakerRuntimeClient | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        auth: bool = True,
        region_name: str | None = None,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        strict: bool = False,
        keep_requests: int = 1000,
        workers: int = 4,
        s3_list_permission: bool = True,
        s3_endpoint_url: str | None = None,
        service_limits: ServiceLimits | None = None,
        session_seconds: float = 1200.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        if model is not None and upstream is not None:
            raise ConfigurationError("model and upstream exclude each other")
        if model is not None and not callable(model):
            raise ConfigurationError(f"model must be callable, not {type(model).__qualname__}")
        if isinstance(upstream, str) and not upstream.startswith(("http://", "https://")):
            raise ConfigurationError(
                f"upstream must be the URL of a container, like http://127.0.0.1:8080, not "
                f"{upstream!r}"
            )
        if workers < 1:
            raise ConfigurationError(f"workers must be 1 or more, not {workers!r}")
        super().__init__()
        self.requests: ReceivedRequests = ReceivedRequests()
        self.objects: ObjectStore = ObjectStore()
        self._model = model
        self._upstream = upstream
        self._host = host
        self._port = port
        self._auth = auth
        self._region_name = region_name
        self._rules = attrs.evolve(SAGEMAKER_SIGNING, region=region_name)
        # Known to everybody, on loopback.
        self._credentials = Credentials(
            access_key_id or "local", secret_access_key or "local-secret"
        )
        self._strict = strict
        self._keep_requests = keep_requests
        self._workers = workers
        self._s3 = S3(self.objects, list_permission=s3_list_permission)
        self._s3_url = s3_endpoint_url
        self._limits = service_limits
        self._sessions = Sessions(session_seconds)
        self._tls = tls
        self._given_keys = (access_key_id, secret_access_key)
        self._url: str | None = None
        self._stack = contextlib.AsyncExitStack()
        self._calls: set[asyncio.Task[object]] = set()

    @property
    def url(self) -> str:
        """Where it listens: scheme, host and port.

        Raises:
            RuntimeError: it is not running.
        """
        if self._url is None:
            raise RuntimeError(
                "the local endpoint has no URL before `with` or `async with` has entered it"
            )
        return self._url

    def client(self, **options: Unpack[ClientOptions]) -> SageMakerRuntimeClient:
        """Give a client of this endpoint, with its key pair; the caller closes it.

        Args:
            options: of `SageMakerRuntimeClient`, before those that lead here.

        Raises:
            RuntimeError: the endpoint is not running.
        """
        from aiosmrt.client import SageMakerRuntimeClient  # noqa: PLC0415 - to serve, none is needed

        leading: ClientOptions = {
            "region_name": self._region_name or "us-east-1",
            "endpoint_url": self.url,
            "s3_endpoint_url": self._s3_url or f"{self.url}{PATH}",
            "aws_access_key_id": self._credentials.access_key_id,
            "aws_secret_access_key": self._credentials.secret_access_key,
            "use_ssl": self._tls is not None,  # plain HTTP is meant, on any address of this machine
            **options,
        }
        return SageMakerRuntimeClient(**leading)

    async def __aenter__(self) -> Self:
        if self._url is not None:
            raise RuntimeError(f"the local endpoint runs already, at {self._url}")
        async with contextlib.AsyncExitStack() as stack:
            stage = await self._open_stage(stack)
            storage = await self._open_storage(stack)
            await storage.make_bucket(BUCKET)
            queue = InvocationQueue(stage.backend.answer, storage, self._workers)
            stack.push_async_callback(queue.aclose)
            dispatcher = Dispatcher(
                stage,
                self._steps,
                self._strict,
                queue,
                self._s3 if self._s3_url is None else None,
                self._credentials if self._auth else None,
                self._rules,
                self.requests,
                self._keep_requests,
            )

            async def handle(request: web.BaseRequest) -> web.StreamResponse:
                call = asyncio.current_task()
                assert call is not None  # noqa: S101 - for mypy: this is a coroutine
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)
                exchange = Exchange(request, self._steps.clock_offset)
                with listener.hold(request.protocol):
                    await dispatcher.handle(exchange)
                return exchange.response

            server = web.Server(
                handle,
                handler_cancellation=True,  # a hang-up must end the model's work
                access_log=None,
                auto_decompress=False,  # the signature covers the body as sent
            )
            runner = web.ServerRunner(server, shutdown_timeout=_LINGER)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            listener = Listener(server, self._steps, self._tls)
            address = await listener.open(self._host, self._port)
            stack.push_async_callback(self._end_calls, listener)
            self._url = _make_url("http" if self._tls is None else "https", *address)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._url = None
        await self._stack.aclose()

    def __enter__(self) -> Self:
        thread = LoopThread(self)
        thread.start()
        self._thread = thread
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._thread.stop()

    async def _open_stage(self, stack: contextlib.AsyncExitStack) -> Stage:
        executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="aiosmrt-local-model")
        stack.push_async_callback(asyncio.to_thread, executor.shutdown)
        if self._upstream is None:
            python = PythonModel(self._model or echo, executor)
            backend: Backend = SessionBackend(python, self._sessions)
        elif not isinstance(self._upstream, str):
            backend = Forwarding(self._upstream)
        else:
            session = await stack.enter_async_context(open_session())
            backend = Container(self._upstream.rstrip("/"), session)
        built_in = self._model is None and self._upstream is None
        return Stage(backend, built_in, executor, self._sessions, self._limits)

    async def _open_storage(self, stack: contextlib.AsyncExitStack) -> Storage:
        if self._s3_url is None:
            return LocalStorage(self.objects)
        from aiosmrt.client import SageMakerRuntimeClient  # noqa: PLC0415 - as above

        access_key_id, secret_access_key = self._given_keys
        # Keys that were chosen for it are no secrets of anything else.
        chosen = access_key_id is not None
        if is_exposed(self._s3_url) and not chosen:
            raise ConfigurationError(
                f"{redact_url(self._s3_url)} is plain HTTP to another machine: give it a key pair "
                "of its own, access_key_id and secret_access_key, or an https:// URL"
            )
        client = SageMakerRuntimeClient(
            region_name="us-east-1",  # S3 says so where it is another
            s3_endpoint_url=self._s3_url,
            use_ssl=not chosen,
            aws_access_key_id=access_key_id,
            aws_secret_access_key=secret_access_key,
        )
        await stack.enter_async_context(client)
        return S3Storage(client._async_inference.s3)  # noqa: SLF001 - of this very package

    async def _end_calls(self, listener: Listener) -> None:
        # aiohttp would cancel them too, but not wait until their generators are closed.
        await listener.aclose()
        while self._calls:
            for call in self._calls:
                call.cancel()
            await asyncio.wait(self._calls)


def _make_url(scheme: str, host: str, port: int) -> str:
    # Nobody can connect to "every address"; the loopback one is among them.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared only
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
