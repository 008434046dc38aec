"""What the package offers: all of it importable, documented and fully typed."""

from __future__ import annotations

import functools
import inspect
import pydoc
import re
import ssl
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import pytest

import aiosmrt
from aiosmrt import asgi, batch, config, errors, hooks, local, models, openai, otel, sse
from aiosmrt.service import parameters

MODULES = (aiosmrt, aiosmrt.eventstream, asgi, batch, local, openai, otel, sse)

# What annotations name only for type checkers.
_NAMES: dict[str, object] = {
    **vars(models),
    **vars(errors),
    **vars(sse),
    **vars(batch),
    **{name: getattr(aiosmrt, name) for name in aiosmrt.__all__},
    "aiohttp": aiohttp,
    "ssl": ssl,
}
# A forward reference, since it is recursive; what stands for it here can be part of a union.
_JSON = dict[str, object] | list[object] | str | int | float | bool | None


def _find_public() -> Iterator[tuple[str, object]]:
    """Give every public function, class, method and property with its dotted name."""
    for module in MODULES:
        for name in module.__all__:
            offered = getattr(module, name)
            if inspect.isclass(offered) or inspect.isfunction(offered):
                yield f"{module.__name__}.{name}", offered
            if inspect.isclass(offered):
                for member, value in _find_members(offered):
                    yield f"{module.__name__}.{name}.{member}", value


def _find_members(kind: type) -> Iterator[tuple[str, object]]:
    for base in kind.__mro__:
        if base.__module__.startswith("aiosmrt"):
            for name, value in vars(base).items():
                if not name.startswith("_") or name in _DUNDERS:
                    function = value.fget if isinstance(value, property) else value
                    function = getattr(function, "__func__", function)
                    # Not what stands in a protocol's place of a constructor.
                    if inspect.isfunction(function) and function.__module__ != "typing":
                        yield name, function


# Methods that users call without naming them.
_DUNDERS = ("__init__", "__aenter__", "__aexit__", "__aiter__", "__anext__", "__await__")

PUBLIC = dict(_find_public())


def _hint(thing: object) -> dict[str, object]:
    """Give the annotations of a function, or of an attrs class's fields, with their names."""
    module = sys.modules[getattr(thing, "__module__", "aiosmrt")]
    return typing.get_type_hints(thing, {**_NAMES, **vars(module), "JSONValue": _JSON})


def _mentions_any(hint: object) -> bool:
    if hint is Any:
        return True
    if typing.is_typeddict(hint):
        return any(map(_mentions_any, typing.get_type_hints(hint, localns=_NAMES).values()))
    arguments = hint if isinstance(hint, list | tuple) else typing.get_args(hint)
    return any(map(_mentions_any, arguments))


def _find_fields() -> Iterator[tuple[str, type, str, object]]:
    """Give each field of each public value: the value's name, itself, the field's name and type."""
    for module in MODULES:
        for name in module.__all__:
            kind = getattr(module, name)
            if inspect.isclass(kind) and (attrs.has(kind) or typing.is_typeddict(kind)):
                for field, hint in _hint(kind).items():
                    if not field.startswith("_"):
                        yield f"{module.__name__}.{name}", kind, field, hint


# What a number can be of.
_UNIT = re.compile(
    r"\b((milli)?seconds|bytes|parts|calls|streams|connections|attempts|tokens|HTTP status"
    r"|counts from [01])\b"
)


@functools.cache
def _show(kind: type) -> str:
    """Give what `help()` says of a class, without signatures, which may have lines."""
    text = re.sub(r"(?m)^ \|", "", pydoc.plain(pydoc.render_doc(kind)))
    return re.sub(r"(?ms)^( +)\w+\(\n.*?^\1\) -> \w+$", "", text)


def _find_entry(kind: type, field: str) -> str:
    """Give what `help()` says of a field, on one line."""
    found = re.search(rf"(?m)^( +){field}: (.+(?:\n\1 +.+)*)", _show(kind))
    return " ".join(found[2].split()) if found else ""


def test_every_field_is_documented_where_help_shows_it() -> None:
    fields = list(_find_fields())
    assert len(fields) > 200
    for name, kind, field, hint in fields:
        entry = _find_entry(kind, field)
        assert len(entry.split()) > 1, f"{name}.{field}"
        members = {hint, *(each for each in typing.get_args(hint) if not isinstance(each, list))}
        if members & {int, float} and str not in members:  # not of JSON
            assert _UNIT.search(entry), f"{name}.{field}: {entry}"


def test_a_field_without_a_word_would_be_found() -> None:
    class Silent(typing.TypedDict):
        """Seconds: none of its own; size is another word."""

        size: int

    assert not _find_entry(Silent, "size")
    assert _find_entry(aiosmrt.Timeout, "connect").startswith("seconds for name look-up")


@pytest.mark.parametrize("module", MODULES)
def test_all_is_what_can_be_imported(module: types.ModuleType) -> None:
    assert len(module.__all__) == len(set(module.__all__))
    for name in module.__all__:
        assert hasattr(module, name), name
    there = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert there - {"annotations", "TYPE_CHECKING"} <= set(module.__all__)


def test_errors_and_results_are_all_offered() -> None:
    assert set(errors.__all__) <= set(aiosmrt.__all__)
    assert set(models.__all__) <= set(aiosmrt.__all__)
    assert {"Config", "Credentials", "RetryPolicy", "Timeout"} <= set(aiosmrt.__all__)
    assert aiosmrt.Config is config.Config
    assert (Path(aiosmrt.__file__).parent / "py.typed").exists()


def test_everything_public_is_documented() -> None:
    for name, public in PUBLIC.items():
        if name.endswith("__"):
            continue
        documentation = inspect.getdoc(public) or ""
        assert len(documentation.split()) > 2, name
        # The one that attrs and dataclasses write is a signature.
        assert not documentation.startswith(f"{name.rpartition('.')[2]}("), name


# Decoded JSON, which only its reader knows: typed as `json.loads` types it.
_DECODED = {
    "aiosmrt.AsyncInferenceOutput.iter_json",
    "aiosmrt.AsyncInferenceOutput.json",
    "aiosmrt.InvokeEndpointResponse.iter_json",
    "aiosmrt.InvokeEndpointResponse.json",
    "aiosmrt.ModelError.original_json",
    "aiosmrt.ResponseStream.iter_json",
    "aiosmrt.ToolCall.parse_arguments",
    "aiosmrt.local.InvocationRequest.json",
}


def test_decoded_json_is_what_its_reader_says() -> None:
    assert set(PUBLIC) >= _DECODED


def test_everything_public_is_typed_without_any() -> None:
    for name, public in PUBLIC.items():
        if inspect.isfunction(public):
            for parameter in inspect.signature(public).parameters.values():
                if parameter.name not in ("self", "cls"):
                    assert parameter.annotation is not parameter.empty, (name, parameter.name)
            assert "return" in public.__annotations__, name
        elif not (attrs.has(typing.cast("type", public)) or typing.is_typeddict(public)):
            continue
        for where, hint in _hint(public).items():
            assert _mentions_any(hint) == (name in _DECODED and where == "return"), (name, where)


def test_any_would_be_found() -> None:
    def loose(one: list[dict[str, Any]]) -> None: ...

    assert any(map(_mentions_any, _hint(loose).values()))
    assert not any(map(_mentions_any, _hint(aiosmrt.Config).values()))
    assert "Any" not in str(models.JSONValue)


def test_the_types_of_calls_are_offered() -> None:
    """What annotates a wrapper of the client, its options and its hooks."""
    offered = {name for name in parameters.__all__ if name != "Arguments"}
    offered |= {name for name in hooks.__all__ if not name[0].islower()}
    assert offered <= set(aiosmrt.__all__)


def test_importing_the_package_imports_no_sdk() -> None:
    """A first call with keys and a region needs botocore no more than this does."""
    program = "import sys, aiosmrt; print(*sorted(m.partition('.')[0] for m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    imported = set(done.stdout.split())
    assert "aiosmrt" in imported
    assert not imported & {"boto3", "aiobotocore", "botocore", "s3transfer"}


_ASYNC = {
    "aiosmrt.async_inference.client",
    "aiosmrt.async_inference.invocation",
    "aiosmrt.async_inference.input",
    "aiosmrt.async_inference.results",
    "aiosmrt.async_inference.part_file",
    "aiosmrt.async_inference.s3",
    "aiosmrt.async_inference.s3_protocol",
}

_FIRST_CALL = """
import asyncio, sys
import aiosmrt

async def main():
    async def answer(reader, writer):
        await reader.readuntil(b"\\r\\n\\r\\n")
        writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\n{}")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with aiosmrt.SageMakerRuntimeClient(
        region_name="us-east-1", endpoint_url=url,
        aws_access_key_id="a", aws_secret_access_key="b",
    ) as client:
        response = await client.invoke_endpoint(endpoint_name="e", body=b"")
        assert response.body == b"{}"
        print(*sys.modules)
        aiosmrt.AsyncInvocation
        client.resume_async_invocation('{"output_location": "s3://b/k"}')
        print(*sys.modules)
    server.close()

asyncio.run(main())
"""


def test_what_only_asynchronous_inference_needs_is_imported_for_it_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FIRST_CALL], check=True, capture_output=True, text=True
    )
    before, after = (set(line.split()) for line in done.stdout.splitlines())
    assert "aiosmrt.client" in before
    assert not before & _ASYNC
    assert after >= _ASYNC


def test_late_names_are_like_others() -> None:
    assert {"AsyncInvocation", "AsyncInferenceResult"} <= set(dir(aiosmrt))
    assert (
        aiosmrt.AsyncInvocation is sys.modules["aiosmrt.async_inference.invocation"].AsyncInvocation
    )
    with pytest.raises(AttributeError, match=r"'aiosmrt' has no attribute 'AsyncInvocations'"):
        aiosmrt.AsyncInvocations  # type: ignore[attr-defined]  # noqa: B018 - its point
