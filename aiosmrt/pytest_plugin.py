"""Fixtures for tests of code that calls SageMaker Runtime, by whatever SDK.

::

    def test_it_tries_again(sagemaker_runtime):
        sagemaker_runtime.throttle()
        sagemaker_runtime.answer(json={"ok": True})
        assert my_code() == {"ok": True}
        assert sagemaker_runtime.requests.only(attempt=2).json == {"x": 1}

pytest finds it by itself where this package is installed. A fixture that nobody asks for costs
nothing: what the endpoint needs is imported with the first.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Collection, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest

from aiosmrt.errors import ConfigurationError

if TYPE_CHECKING:
    from aiosmrt.client import SageMakerRuntimeClient
    from aiosmrt.config import RetryPolicy
    from aiosmrt.errors import AiosmrtError
    from aiosmrt.local import LocalEndpoint

__all__ = ["sagemaker_runtime", "sagemaker_runtime_client", "sagemaker_runtime_guard"]

_MARKER = (
    "sagemaker_runtime(allow_unexpected=False, allow_unused=False, allow_hosts=(), "
    "retry_delays=False): what the fixture `sagemaker_runtime` lets pass: requests that the script "
    "has no answer for, steps that nobody asked for, connections that leave this machine, and the "
    "pauses between attempts."
)
_PORT = pytest.StashKey[int]()
_PASSED = pytest.StashKey[bool]()


@attrs.frozen
class _Leave:
    """What the marker allows."""

    allow_unexpected: bool = False
    allow_unused: bool = False
    allow_hosts: Collection[str] = ()
    retry_delays: bool = False

    @classmethod
    def of(cls, node: pytest.Item) -> _Leave:
        """Read the markers of a test; the nearest says it."""
        said: dict[str, object] = {}
        for marker in node.iter_markers("sagemaker_runtime"):
            unknown = marker.kwargs.keys() - {field.name for field in attrs.fields(cls)}
            if marker.args or unknown:
                raise pytest.UsageError(f"{node.nodeid}: the marker is {_MARKER}")
            said = {**marker.kwargs, **said}
        hosts = said.get("allow_hosts", ())
        flags = (value for name, value in said.items() if name != "allow_hosts")
        listed = isinstance(hosts, Collection) and not isinstance(hosts, str)
        if not listed or not all(isinstance(value, bool) for value in flags):
            raise pytest.UsageError(
                f"{node.nodeid}: allow_hosts is a list, and the others are True or False: {said}"
            )
        return cls(**said)  # type: ignore[arg-type]  # they have just been looked at


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", _MARKER)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Take note of how a test went: the fixtures' own complaints come second."""
    report = yield
    if call.when == "call":
        item.stash[_PASSED] = report.passed
    return report


@pytest.fixture
def sagemaker_runtime_guard(request: pytest.FixtureRequest) -> Iterator[None]:
    """Refuse connections that leave this machine; `allow_hosts` of the marker lets some through.

    A test that passes although some were refused fails at its end.
    """
    from aiosmrt.local import LoopbackGuard  # noqa: PLC0415 - what comes with it takes its time

    with LoopbackGuard(_Leave.of(request.node).allow_hosts) as guard:
        yield
    if guard.refused:
        places = ", ".join(dict.fromkeys(guard.refused))
        _complain(
            request.node,
            f"this test has reached for {places}, and was refused;\n"
            "@pytest.mark.sagemaker_runtime(allow_hosts=[...]) lets it through",
        )


@pytest.fixture
def sagemaker_runtime(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    sagemaker_runtime_guard: None,  # noqa: ARG001 - it is there for what it does
) -> Iterator[LocalEndpoint]:
    """Give a local endpoint with an empty script, which the environment names to every SDK.

    It has a thread of its own, and so serves tests with and without an event loop. At the end of a
    test that has passed, requests without an answer in the script and steps without a request are a
    failure, unless a step is `optional` or the marker allows it. Clients of this package and of
    botocore do not pause between attempts.
    """
    leave = _Leave.of(request.node)
    with contextlib.ExitStack() as stack:
        endpoint = stack.enter_context(_listen(request.config))
        _set_environment(monkeypatch, endpoint.url, tmp_path)
        if not leave.retry_delays:
            _drop_delays(monkeypatch)
        yield endpoint
    complaint = ""
    try:
        endpoint.assert_complete(
            allow_unexpected=leave.allow_unexpected, allow_unused=leave.allow_unused
        )
    except AssertionError as error:
        complaint = str(error)
    if complaint:  # not above, where pytest would show the error as a cause
        _complain(request.node, complaint)


@pytest.fixture
def sagemaker_runtime_client(sagemaker_runtime: LocalEndpoint) -> Iterator[SageMakerRuntimeClient]:
    """Give a client of `sagemaker_runtime`, to be used on any event loop; it is closed here."""
    client = sagemaker_runtime.client(poll_interval=0.02)
    yield client
    # In a thread: this one may have an event loop, which another would take the place of.
    closing = threading.Thread(target=lambda: asyncio.run(client.aclose()))
    closing.start()
    closing.join()


def _complain(node: pytest.Item, text: str) -> None:
    if node.stash.get(_PASSED, False):
        node.stash[_PASSED] = False  # what else there is to complain of comes with this
        pytest.fail(text, pytrace=False)
    # It has failed already: this may be why.
    node.add_report_section("teardown", "sagemaker_runtime", text)


@contextlib.contextmanager
def _listen(config: pytest.Config) -> Iterator[LocalEndpoint]:
    """Run an endpoint, at the port of the last one: a client outlives a test that it was made in.

    Whoever resolves a URL does so once, and a client in a module is made once.
    """
    from aiosmrt.local import LocalEndpoint  # noqa: PLC0415 - as above

    with contextlib.ExitStack() as stack:
        endpoint = LocalEndpoint(strict=True, port=config.stash.get(_PORT, 0))
        try:
            stack.enter_context(endpoint)
        except ConfigurationError:  # somebody else has taken it meanwhile
            endpoint = stack.enter_context(LocalEndpoint(strict=True))
        config.stash[_PORT] = int(endpoint.url.rpartition(":")[2])
        yield endpoint


def _set_environment(monkeypatch: pytest.MonkeyPatch, url: str, folder: Path) -> None:
    for name in tuple(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name, value in {
        "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": url,
        "AWS_ENDPOINT_URL_S3": f"{url}/s3",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local-secret",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",  # where there is none, some look into the system's settings
        # What a developer has there is no part of a test.
        "AWS_CONFIG_FILE": str(folder / "no-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "no-credentials"),
    }.items():
        monkeypatch.setenv(name, value)
    if "boto3" in sys.modules:
        # It keeps the credentials that it has found, and a client made of it later has them.
        monkeypatch.setattr("boto3.DEFAULT_SESSION", None)


def _drop_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have clients attempt again at once: this package's, botocore's in each of its modes."""
    monkeypatch.setattr("aiosmrt.calls.retries.choose_delay", _choose_no_delay)
    monkeypatch.setattr("aiosmrt.calls.remedies.choose_delay", _choose_no_delay)
    for target in (
        "botocore.retries.standard.ExponentialBackoff.delay_amount",
        "botocore.retryhandler.delay_exponential",
        "botocore.retries.bucket.TokenBucket._sleep_amount",
        "aiobotocore.retries.bucket.AsyncTokenBucket._sleep_amount",
    ):
        # None of their public names: where they have others, there are pauses.
        with contextlib.suppress(ImportError):
            monkeypatch.setattr(target, lambda *_, **__: 0, raising=False)


def _choose_no_delay(
    error: AiosmrtError, attempt: int, policy: RetryPolicy, *_: object
) -> float | None:
    """Give no pause, and let a policy of the caller's own still say that it stops."""
    stops = policy.backoff is not None and policy.backoff(attempt, error) is None
    return None if stops else 0.0
