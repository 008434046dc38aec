"""What is said where file descriptors run out."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from aiosmrt.client import SageMakerRuntimeClient
from aiosmrt.config import RetryPolicy, Timeout
from aiosmrt.errors import ConfigurationError, ConnectError, FirstByteTimeout, TooManyOpenFiles
from aiosmrt.transport.descriptors import have_run_out

resource = pytest.importorskip("resource")

pytestmark = pytest.mark.usefixtures("quiet_loop")


@contextlib.contextmanager
def _leave(number: int) -> Iterator[None]:
    """Leave the process so many descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The lowest that is free is given out first, and none at or above the limit.
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]
    top = max(taken)
    for descriptor in taken:
        os.close(descriptor)
    held = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (top + 1, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        for descriptor in held[:number]:
            os.close(descriptor)
        yield
    finally:
        for descriptor in held[number:]:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _connect(endpoint_url: str, **options: Any) -> SageMakerRuntimeClient:
    return SageMakerRuntimeClient(
        region_name="eu-west-1",
        endpoint_url=endpoint_url,
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="not-a-secret",
        **options,
    )


@pytest.mark.asyncio
async def test_streams_that_find_no_descriptor_say_so_at_once() -> None:
    timeout, retry = Timeout(first_byte=0.3), RetryPolicy(max_attempts=5)
    # The system takes connections in that nobody accepts.
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with _connect(url, timeout=timeout, retry=retry) as client:
            await client.warm_up()

            async def stream() -> None:
                async with client.invoke_endpoint_with_response_stream(endpoint_name="e", body=b""):
                    raise AssertionError

            with _leave(12):
                ended = await asyncio.gather(*(stream() for _ in range(40)), return_exceptions=True)
            kinds = [type(error) for error in ended]
            assert kinds.count(FirstByteTimeout) == 12
            assert kinds.count(TooManyOpenFiles) == 28
            for error in ended:
                if isinstance(error, TooManyOpenFiles):
                    assert "max_connections" in str(error)
                    assert "ulimit -n" in str(error)
                    assert "endpoint_url" not in str(error)
                    assert len(error.attempts) == 1
                    assert not error.may_have_run


@pytest.mark.parametrize("url", ["http://localhost:1", "http://no-such-host.invalid"])
@pytest.mark.asyncio
async def test_a_look_up_that_can_open_nothing_says_so(url: str) -> None:
    async with _connect(url, use_ssl=False, retry=RetryPolicy(mode="off")) as client:
        await client.warm_up()
        with _leave(0), pytest.raises(TooManyOpenFiles, match=r"ulimit -n"):
            await client.invoke_endpoint(endpoint_name="e", body=b"")
        with pytest.raises(ConnectError) as caught:
            await client.invoke_endpoint(endpoint_name="e", body=b"")
        assert type(caught.value) is ConnectError


@pytest.mark.asyncio
async def test_certificates_that_cannot_be_opened_say_so(
    authority: trustme.CA, tmp_path: Path
) -> None:
    bundle, certificate = tmp_path / "authority.pem", tmp_path / "client.pem"
    authority.cert_pem.write_to_path(str(bundle))
    authority.issue_cert("me").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    for options in ({"verify": str(bundle)}, {"client_cert": str(certificate)}):
        retry = RetryPolicy(mode="off")
        async with _connect("https://127.0.0.1:1", retry=retry, **options) as client:
            with _leave(0), pytest.raises(ConfigurationError, match=r"max_connections"):
                await client.invoke_endpoint(endpoint_name="e", body=b"")
            # Later there may be some.
            with pytest.raises(ConnectError):
                await client.invoke_endpoint(endpoint_name="e", body=b"")


def _caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("make", "without", "within"),
    [
        (lambda: OSError(errno.EMFILE, "x"), True, True),
        (lambda: OSError(errno.ENFILE, "x"), True, True),
        (lambda: _caused(OSError(errno.EIO, "x"), OSError(errno.EMFILE, "x")), True, True),
        (lambda: socket.gaierror(socket.EAI_AGAIN, "x"), True, False),
        (lambda: OSError("Multiple exceptions: x, y"), True, False),
        (lambda: ssl.SSLCertVerificationError(1, "x"), True, False),
        (lambda: ConnectionRefusedError(errno.ECONNREFUSED, "x"), False, False),
        (lambda: ValueError("x"), False, False),
    ],
)
def test_errors_that_do_not_say_it_are_looked_into(
    make: Callable[[], Exception], *, without: bool, within: bool
) -> None:
    assert have_run_out(make()) is within
    with _leave(0):
        found = have_run_out(make())
    assert found is without
