"""The line that a terminal shows while an output is awaited."""

from __future__ import annotations

import asyncio
import io
import json
import sys

import pytest

from aiosmrt import AsyncInferenceTimeout
from aiosmrt.cli.waiting import wait_for_output
from aiosmrt.local import LocalEndpoint, StoredObject

_OUTPUT = "s3://bucket/output"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


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
async def test_who_gives_up_is_told_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    async with LocalEndpoint() as endpoint, endpoint.client() as client:
        endpoint.objects.make_bucket("bucket")
        invocation = client.resume_async_invocation(json.dumps({"output_location": _OUTPUT}))
        with pytest.raises(AsyncInferenceTimeout):
            await wait_for_output(invocation, 0)
    assert json.loads(capsys.readouterr().err)["output_location"] == _OUTPUT
