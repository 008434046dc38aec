"""The typed parameters and options, compared with what they are typed after."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Optional, get_type_hints

import aiohttp
import attrs
import pytest

from aiosmrt.config import Config, Path, Timeout
from aiosmrt.hooks import Hooks
from aiosmrt.service.model import (
    INVOKE_ENDPOINT,
    INVOKE_ENDPOINT_ASYNC,
    INVOKE_ENDPOINT_WITH_RESPONSE_STREAM,
    Operation,
)
from aiosmrt.service.parameters import (
    Body,
    CallOptions,
    ClientOptions,
    InvokeEndpointAsyncParameters,
    InvokeEndpointParameters,
    InvokeEndpointWithResponseStreamParameters,
    SessionParameters,
)


@pytest.mark.parametrize(
    ("typed", "operation"),
    [
        (InvokeEndpointParameters, INVOKE_ENDPOINT),
        (InvokeEndpointAsyncParameters, INVOKE_ENDPOINT_ASYNC),
        (InvokeEndpointWithResponseStreamParameters, INVOKE_ENDPOINT_WITH_RESPONSE_STREAM),
    ],
)
def test_an_operation_takes_its_members_and_the_options_of_a_call(
    typed: type, operation: Operation
) -> None:
    hints = get_type_hints(typed)
    options = get_type_hints(CallOptions)
    assert set(hints) == {*operation.parameters, *options}
    assert typed.__total__ is False  # type: ignore[attr-defined]  # of a TypedDict
    kinds: dict[str, object] = {"string": str, "integer": int, "blob": Body}
    for name, member in operation.parameters.items():
        kind = kinds[member.shape.kind]
        if not member.required:
            kind = Optional[kind]  # noqa: UP045 - `object` knows no |
        assert hints[name] == kind, name


def test_a_call_has_options_of_its_own() -> None:
    assert get_type_hints(CallOptions) == {
        "headers": Mapping[str, str] | None,
        "json": object,
        "timeout": Timeout | float | None,
    }


def test_a_session_takes_what_its_calls_can_have_in_common() -> None:
    hints = get_type_hints(InvokeEndpointParameters)
    common = get_type_hints(SessionParameters)
    assert common == {name: hints[name] for name in common}
    alone = {"body", "json", "session_id", "inference_id", "enable_explanations"}
    assert set(hints) - set(common) == alone


def test_a_client_takes_the_fields_of_its_config() -> None:
    names = {"ssl": ssl, "aiohttp": aiohttp, "Hooks": Hooks}
    options = get_type_hints(ClientOptions, localns=names)
    fields = get_type_hints(Config, localns=names)
    # What is taken for something else.
    fields["timeout"] = Timeout | float | None
    for prefix in ("", "proxy_"):
        fields[f"{prefix}verify"] = bool | Path | ssl.SSLContext | None
        fields[f"{prefix}client_cert"] = Path | tuple[Path, Path] | None
    assert options == {field.name: fields[field.name] for field in attrs.fields(Config)}
