"""The fixtures as somebody's own tests use them, each file of tests in a pytest of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

pytest_plugins = ["pytester"]

Run: TypeAlias = Callable[..., pytest.RunResult]

_OLD_BOTOCORE = "ignore:datetime.datetime.utcnow:DeprecationWarning"

_ASYNCIO = ("-p", "pytest_asyncio.plugin", "-o", "asyncio_default_fixture_loop_scope=function")

GUIDE = Path(__file__).parent.parent / "docs/how-to/testing.md"


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run tests with the plugin alone, or with those that are named."""
    # Where the package is installed, the plugin is found by itself; here it is named.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    # Other tests may have imported it, and pytest warns that it is too late to rewrite it then.
    monkeypatch.delitem(sys.modules, "aiosmrt.pytest_plugin", raising=False)

    def _run(source: str, *options: str, apart: bool = False) -> pytest.RunResult:
        pytester.makepyfile(source)
        start = pytester.runpytest_subprocess if apart else pytester.runpytest_inprocess
        return start(
            *("-p", "aiosmrt.pytest_plugin", "-p", "no:cacheprovider"),
            *("--strict-markers", "-W", "error", "-W", _OLD_BOTOCORE, *options),
        )

    return _run


def test_a_fixture_that_nobody_asks_for_imports_nothing() -> None:
    program = "import sys, aiosmrt.pytest_plugin; print(sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert "'aiosmrt.errors'" in done.stdout
    for name in ("aiohttp", "botocore", "aiosmrt.local", "aiosmrt.client"):
        assert f"'{name}'" not in done.stdout


def test_tests_of_every_kind_are_served(run: Run) -> None:
    """Without an event loop, under pytest-asyncio, and under anyio's plugin."""
    result = run(
        """
        import asyncio
        import boto3
        import pytest
        import aiosmrt

        def ask_by_boto3():
            client = boto3.client("sagemaker-runtime")
            with client.invoke_endpoint(EndpointName="e", Body=b"x")["Body"] as body:
                text = body.read().decode()
            client.close()
            return text

        def test_boto3(sagemaker_runtime):
            sagemaker_runtime.throttle(2)
            sagemaker_runtime.answer(text="boto3")
            assert ask_by_boto3() == "boto3"
            assert sagemaker_runtime.requests.only(attempt=3).endpoint_name == "e"

        def test_s3_and_output(sagemaker_runtime):
            sagemaker_runtime.answer(text="later")
            runtime, s3 = boto3.client("sagemaker-runtime"), boto3.client("s3")
            s3.put_object(Bucket="inputs", Key="k", Body=b"1,2")
            queued = runtime.invoke_endpoint_async(EndpointName="e", InputLocation="s3://inputs/k")
            bucket, _, key = queued["OutputLocation"].removeprefix("s3://").partition("/")
            s3.get_waiter("object_exists").wait(
                Bucket=bucket, Key=key, WaiterConfig={"Delay": 0, "MaxAttempts": 500}
            )
            with s3.get_object(Bucket=bucket, Key=key)["Body"] as body:
                assert body.read() == b"later"
            runtime.close(), s3.close()

        async def ask(client):
            return (await client.invoke_endpoint(endpoint_name="e", body=b"x")).text()

        def test_own_loop(sagemaker_runtime, sagemaker_runtime_client):
            for text in ("first", "second"):
                sagemaker_runtime.answer(text=text)
                assert asyncio.run(ask(sagemaker_runtime_client)) == text

        @pytest.mark.asyncio
        async def test_pytest_asyncio(sagemaker_runtime, sagemaker_runtime_client):
            sagemaker_runtime.unavailable(2)
            sagemaker_runtime.answer(text="async")
            assert await ask(sagemaker_runtime_client) == "async"

        @pytest.mark.asyncio
        async def test_a_client_of_its_own(sagemaker_runtime):
            sagemaker_runtime.answer(text="own")
            async with aiosmrt.SageMakerRuntimeClient() as client:
                assert await ask(client) == "own"

        @pytest.mark.anyio
        async def test_anyio(sagemaker_runtime, sagemaker_runtime_client):
            sagemaker_runtime.answer(text="anyio")
            assert await ask(sagemaker_runtime_client) == "anyio"

        @pytest.fixture
        def anyio_backend():
            return "asyncio"
        """,
        *_ASYNCIO,
        *("-p", "anyio.pytest_plugin"),
    )
    result.assert_outcomes(passed=6)


def test_a_client_of_a_module_lives_through_all_tests(run: Run) -> None:
    result = run(
        """
        import asyncio
        import pytest
        import aiosmrt

        client = aiosmrt.SageMakerRuntimeClient()

        @pytest.mark.parametrize("text", ["first", "second", "third"])
        def test_it(sagemaker_runtime, text):
            sagemaker_runtime.answer(text=text)

            async def ask():
                response = await client.invoke_endpoint(endpoint_name="e", body=b"x")
                assert response.text() == text

            asyncio.run(ask())

        def test_close():
            asyncio.run(client.aclose())
        """
    )
    result.assert_outcomes(passed=4)


def test_the_environment_is_that_of_the_test_alone(
    run: Run, monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester
) -> None:
    config = pytester.mkdir(".aws") / "config"  # at home
    config.write_text("[profile mine]\nregion = eu-west-1\n[default]\nparameter_validation = no\n")
    assert os.path.expanduser("~/.aws/config") == str(config)  # noqa: PTH111 - as botocore has it
    for name, value in {
        "AWS_PROFILE": "mine",
        "AWS_CONFIG_FILE": str(config),
        "AWS_SESSION_TOKEN": "old",
        "HTTP_PROXY": "http://proxy.invalid:3128",
    }.items():
        monkeypatch.setenv(name, value)
    result = run(
        """
        import os
        import boto3

        def test_inside(sagemaker_runtime):
            url = sagemaker_runtime.url
            assert os.environ["AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"] == url
            assert os.environ["AWS_ENDPOINT_URL_S3"] == url + "/s3"
            session = boto3.Session()
            assert session.region_name == "us-east-1"
            assert session.available_profiles == []
            keys = session.get_credentials()
            assert (keys.access_key, keys.token) == ("local", None)
            assert "HTTP_PROXY" not in os.environ

        def test_a_proxy_of_its_own(sagemaker_runtime, monkeypatch):
            monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:3128")
            sagemaker_runtime.answer(text="x")
            client = boto3.client("sagemaker-runtime")
            assert client.invoke_endpoint(EndpointName="e", Body=b"")["Body"].read() == b"x"

        def test_outside():
            assert os.environ["AWS_PROFILE"] == "mine"
            assert "AWS_ENDPOINT_URL_S3" not in os.environ
        """
    )
    result.assert_outcomes(passed=3)


_COMPLAINTS = """
import asyncio
import pytest
import aiosmrt

async def ask(client, name="e", **options):
    try:
        return await client.invoke_endpoint(endpoint_name=name, body=b"x", **options)
    except aiosmrt.ServiceError as error:
        return error

def test_unexpected(sagemaker_runtime, sagemaker_runtime_client):
    sagemaker_runtime.answer(text="b", on="other", optional=True)
    asyncio.run(ask(sagemaker_runtime_client, custom_attributes="hidden-1"))

def test_unused(sagemaker_runtime):
    sagemaker_runtime.throttle(2)
    sagemaker_runtime.cut(2, "frame", chat="a b c")

def test_optional(sagemaker_runtime):
    sagemaker_runtime.answer(text="b", optional=True)

@pytest.mark.sagemaker_runtime(allow_unused=True, allow_unexpected=True)
def test_relaxed(sagemaker_runtime, sagemaker_runtime_client):
    asyncio.run(ask(sagemaker_runtime_client))
    sagemaker_runtime.answer(text="b", on="other")

def test_failed(sagemaker_runtime, sagemaker_runtime_client):
    sagemaker_runtime.answer(text="b", on="other")
    assert asyncio.run(ask(sagemaker_runtime_client)).text() == "b"

def test_skipped(sagemaker_runtime):
    sagemaker_runtime.answer(text="b", on="other")
    pytest.skip("for once")
"""


def test_complaints(run: Run) -> None:
    result = run(_COMPLAINTS)
    result.assert_outcomes(passed=4, failed=1, skipped=1, errors=2)
    text = result.stdout.str()
    told = re.search(r"ERROR at teardown of test_unexpected _+\n(.*?)\n_", text, re.DOTALL)
    assert told is not None
    assert re.search(r"(?m)^1 request had no answer in the script:$", told[1])
    assert "InvokeEndpoint of 'e' (custom_attributes=****): x" in told[1]
    assert re.search(
        r"nearest: answer\(text='b', on='other', optional=True\) \(test_.*py:\d+\)", text
    )
    assert "endpoint_name is 'e', not 'other'" in told[1]
    told = re.search(r"ERROR at teardown of test_unused _+\n(.*?)\n_", text, re.DOTALL)
    assert told is not None
    assert "2 steps of the script came to nothing:" in told[1]
    assert re.search(r"throttle\(times=2\) \(test_.*\.py:16\): asked for 0 of 2 times", told[1])
    assert "cut(after=2, inside='frame', chat='a b c')" in told[1]
    # Where the test has failed already, it is no failure of its own.
    assert re.search(r"(?s)Captured sagemaker_runtime teardown.*endpoint_name is 'e'", text)
    assert "hidden-1" not in text
    assert "Authorization" not in text


def test_nothing_leaves_this_machine(run: Run) -> None:
    result = run(
        """
        import socket
        import pytest

        def reach():
            with socket.socket() as connection, pytest.raises(ConnectionRefusedError):
                connection.connect(("192.0.2.1", 443))

        def test_reaches(sagemaker_runtime):
            reach()

        def test_guarded_without_an_endpoint(sagemaker_runtime_guard):
            reach()

        @pytest.mark.sagemaker_runtime(allow_hosts=["192.0.2.1"])
        def test_allowed(sagemaker_runtime):
            assert socket.getaddrinfo("192.0.2.1", 443)

        @pytest.mark.sagemaker_runtime(allow_hosts="192.0.2.1")
        def test_allowed_by_letter(sagemaker_runtime_guard):
            raise AssertionError

        def test_two_complaints(sagemaker_runtime):
            sagemaker_runtime.throttle()
            reach()
        """
    )
    result.assert_outcomes(passed=4, errors=4)
    text = result.stdout.str()
    assert "allow_hosts is a list" in text
    assert "ExceptionGroup" not in text  # one comes with the other
    assert re.search(r"(?s)throttle\(times=1\).*Captured sagemaker_runtime.*has reached for", text)
    assert "has reached for 192.0.2.1 port 443, and was refused" in result.stdout.str()


def test_attempts_do_not_pause_unless_that_is_asked_for(run: Run) -> None:
    result = run(
        """
        import asyncio
        import time
        import boto3
        import pytest
        import aiosmrt
        from botocore.config import Config

        def measure(sagemaker_runtime, client):
            sagemaker_runtime.throttle(2, retry_after=1)
            sagemaker_runtime.answer(text="b", times=None, optional=True)
            began = time.perf_counter()
            asyncio.run(client.invoke_endpoint(endpoint_name="e", body=b"x"))
            return time.perf_counter() - began

        def test_at_once(sagemaker_runtime, sagemaker_runtime_client):
            assert measure(sagemaker_runtime, sagemaker_runtime_client) < 1

        @pytest.mark.sagemaker_runtime(retry_delays=True)
        def test_paused(sagemaker_runtime, sagemaker_runtime_client):
            sagemaker_runtime.throttle(retry_after=0.3)
            sagemaker_runtime.answer(text="b", times=None)
            began = time.perf_counter()
            asyncio.run(sagemaker_runtime_client.invoke_endpoint(endpoint_name="e", body=b"x"))
            assert time.perf_counter() - began > 0.3

        def test_a_policy_of_ones_own_still_stops(sagemaker_runtime, sagemaker_runtime_client):
            sagemaker_runtime.throttle()
            policy = aiosmrt.RetryPolicy(backoff=lambda number, error: None)
            client = sagemaker_runtime_client.with_options(retry=policy)
            with pytest.raises(aiosmrt.ThrottlingException):
                asyncio.run(client.invoke_endpoint(endpoint_name="e", body=b"x"))

        @pytest.mark.parametrize("mode", ["legacy", "standard", "adaptive"])
        def test_boto3(sagemaker_runtime, mode):
            sagemaker_runtime.throttle(2, retry_after=2)
            sagemaker_runtime.answer(text="b")
            client = boto3.client("sagemaker-runtime", config=Config(retries={"mode": mode}))
            began = time.perf_counter()
            client.invoke_endpoint(EndpointName="e", Body=b"x")["Body"].close()
            client.close()
            assert time.perf_counter() - began < 2
        """
    )
    result.assert_outcomes(passed=6)


def test_a_marker_that_says_something_else_is_refused(run: Run) -> None:
    result = run(
        """
        import pytest

        @pytest.mark.sagemaker_runtime(allow_unknown=True)
        def test_it(sagemaker_runtime):
            pass
        """
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*UsageError*test_it: the marker is sagemaker_runtime(allow_un*"])
    assert "sagemaker_runtime(allow_unexpected=False" in run("", "--markers").stdout.str()


def test_the_tests_in_the_guide_run(run: Run) -> None:
    blocks = re.findall(r"(?ms)^```python\n(.*?)^```$", GUIDE.read_text())
    first, tests = (block for block in blocks if "sagemaker_runtime" in block)
    # As they are printed, and apart: pytest forgets the modules that a run imports, but packages
    # keep theirs, and the next run mixes two copies of a framework.
    run(first, *_ASYNCIO, apart=True).assert_outcomes(passed=1)
    run(tests, apart=True).assert_outcomes(passed=5)
    faults = tests[tests.index("ANSWER") : tests.index("@pytest")].strip().splitlines()
    assert len(faults) <= 10
