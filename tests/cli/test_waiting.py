"""The line that a terminal shows while an output is awaited."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
from typing import Any

import pytest

from aiosmrt import AsyncInferenceTimeout, ParameterError, RetryPolicy
from aiosmrt.cli.terminal import complain
from aiosmrt.cli.waiting import wait_for_output
from aiosmrt.local import LocalEndpoint, StoredObject

_OUTPUT = "s3://bucket/output"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _term(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")


@pytest.mark.asyncio
async def test_a_terminal_is_told_how_long_already(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    async with LocalEndpoint() as endpoint, endpoint.client(poll_interval=0.01) as client:
        endpoint.objects.make_bucket("bucket")
        invocation = client.resume_async_invocation(json.dumps({"output_location": _OUTPUT}))
        waiting = asyncio.create_task(wait_for_output(invocation, 30))
        while not terminal.getvalue():  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.001)
        assert f"0 s  waiting for {_OUTPUT}" in terminal.getvalue()
        endpoint.objects.put(_OUTPUT, StoredObject(b"done"))
        assert await waiting == b"done"
    # The line is wiped away.
    assert terminal.getvalue().endswith("\r\x1b[K")


@pytest.mark.asyncio
async def test_the_line_is_never_longer_than_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "40")
    location = f"s3://bucket/{'folder/' * 20}the-output"
    async with LocalEndpoint() as endpoint, endpoint.client(poll_interval=0.01) as client:
        endpoint.objects.make_bucket("bucket")
        endpoint.objects.put(location, StoredObject(b"done"))
        invocation = client.resume_async_invocation(json.dumps({"output_location": location}))
        assert await wait_for_output(invocation, 30) == b"done"
    line = terminal.getvalue().split("\r")[1]
    assert len(line) < 40
    assert line.endswith("the-output")


@pytest.mark.asyncio
async def test_a_terminal_that_wipes_nothing_is_shown_no_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "dumb")
    async with LocalEndpoint() as endpoint, endpoint.client(poll_interval=0.01) as client:
        endpoint.objects.make_bucket("bucket")
        invocation = client.resume_async_invocation(json.dumps({"output_location": _OUTPUT}))
        with pytest.raises(AsyncInferenceTimeout):
            await wait_for_output(invocation, 0.1)
    # What it takes to go on is all.
    assert terminal.getvalue() == f"{invocation.to_json()}\n"


@pytest.mark.asyncio
async def test_who_gives_up_is_told_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    async with LocalEndpoint() as endpoint, endpoint.client() as client:
        endpoint.objects.make_bucket("bucket")
        invocation = client.resume_async_invocation(json.dumps({"output_location": _OUTPUT}))
        with pytest.raises(AsyncInferenceTimeout) as caught:
            await wait_for_output(invocation, 0)
    assert json.loads(capsys.readouterr().err)["output_location"] == _OUTPUT
    complain(caught.value)
    said = capsys.readouterr().err
    assert "`aiosmrt result` and the line above" in said
    assert "()" not in said  # no Python
    with pytest.raises(ParameterError) as refused:
        client.resume_async_invocation("nonsense")
    complain(refused.value)
    assert "what `aiosmrt invoke-async` prints" in capsys.readouterr().err


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.asyncio
async def test_what_the_wait_puts_up_with_is_printed(
    monkeypatch: pytest.MonkeyPatch, *, terminal: bool
) -> None:
    printed = _Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", printed)
    handlers = list(logging.getLogger("aiosmrt").handlers)
    options: dict[str, Any] = {"retry": RetryPolicy(mode="off"), "poll_interval": 0.01}
    async with LocalEndpoint() as endpoint, endpoint.client(**options) as client:
        away = client.with_options(s3_endpoint_url="http://127.0.0.1:1")
        invocation = away.resume_async_invocation(json.dumps({"output_location": _OUTPUT}))
        with pytest.raises(AsyncInferenceTimeout):
            await wait_for_output(invocation, 0.2)
    lines = printed.getvalue().split("\n")
    told = [line for line in lines if "a look into S3 failed" in line]
    assert len(told) == 1
    assert told[0].rpartition("\x1b[K")[2].startswith("aiosmrt: ")
    assert "--s3-endpoint-url" in told[0]
    assert ("\x1b" in printed.getvalue()) is terminal
    assert logging.getLogger("aiosmrt").handlers == handlers
