"""What is taken of aiohttp beyond its documentation: who has another one is told so at once."""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler

import aiosmrt
from aiosmrt.transport.adapter import check_aiohttp


class _OtherRequest:
    """As of an aiohttp whose requests are made in another way."""

    def __init__(self, method: str, url: str, *, loop: object, ssl: object, proxy: object) -> None:
        raise AssertionError("nobody can make one")


async def _connect(self: object, request: object) -> None:
    raise AssertionError("nobody can call it")


@pytest.mark.parametrize(
    ("target", "name", "other", "missing"),
    [
        (aiohttp, "ClientRequest", _OtherRequest, "session="),
        (aiohttp.BaseConnector, "connect", _connect, "traces="),
        (ResponseHandler, "should_close", None, "ResponseHandler.should_close"),
    ],
    ids=["request", "connector", "protocol"],
)
@pytest.mark.asyncio
async def test_an_aiohttp_of_another_shape_is_refused_by_version(
    monkeypatch: pytest.MonkeyPatch, target: Any, name: str, other: Any, missing: str
) -> None:
    if other is None:
        monkeypatch.delattr(target, name)
    else:
        monkeypatch.setattr(target, name, other)
    monkeypatch.setattr(aiohttp, "__version__", "5.0.0")
    async with aiosmrt.SageMakerRuntimeClient(
        region_name="us-east-1",
        endpoint_url="http://127.0.0.1:1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    ) as client:
        with pytest.raises(
            aiosmrt.ConfigurationError, match=r"aiohttp 5\.0\.0 .*3\.12 to"
        ) as caught:
            await client.invoke_endpoint(endpoint_name="e", body=b"x")
        assert missing in str(caught.value)
        assert not caught.value.may_have_run


def test_the_aiohttp_that_is_here_fits() -> None:
    check_aiohttp()


def test_nobody_else_looks_inside() -> None:
    """No other file imports an undocumented module of aiohttp's, or touches its private names."""
    package = Path(aiosmrt.__file__).parent
    for file in package.rglob("*.py"):
        if file.name == "adapter.py" or "local" in file.parts:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.module == "aiohttp.abc" or "aiohttp." not in (node.module or ""), file
            if isinstance(node, ast.Attribute) and node.attr == "should_close":
                raise AssertionError(f"{file}: {node.lineno}")
    assert asyncio.iscoroutinefunction(aiohttp.BaseConnector.connect)
