"""Whose fault an error is."""

from __future__ import annotations

from typing import Any

import pytest

from aiosmrt.batch.faults import Faults
from aiosmrt.errors import (
    AiosmrtError,
    ClientClosed,
    ConfigurationError,
    ConnectError,
    CredentialsError,
    ModelError,
    ParameterError,
    ServiceError,
    ThrottlingException,
    TooManyOpenFiles,
    ValidationError,
)
from aiosmrt.service import Arguments


def _ask(**parameters: Any) -> Arguments:
    return Arguments({"endpoint_name": "e", **parameters})  # type: ignore[typeddict-item]


_MISSING = ValidationError("Endpoint e of account 123456789012 not found.", status=400)
_NO_COMPONENT = ValidationError("Inference Component c not found.", status=400)
_DENIED = ServiceError("not authorized", code="AccessDeniedException", status=403)

_ALWAYS: list[AiosmrtError] = [
    ClientClosed("closed"),
    ConfigurationError("no region"),
    CredentialsError("none"),
    ServiceError("expired", code="ExpiredTokenException", status=403),
    ServiceError("wrong", code="InvalidSignatureException", status=403),
    ServiceError("unknown", code="UnrecognizedClientException", status=403),
]
_NEVER: list[Exception] = [
    ParameterError("body is too large"),
    ModelError("no", status=424),
    ThrottlingException("no", status=429),
    ValidationError("Variant v is not there", status=400),
    OSError("torn"),
    ZeroDivisionError("of a hook"),
]


@pytest.mark.parametrize("error", _ALWAYS, ids=repr)
def test_what_is_wrong_with_the_client_is_wrong_for_every_row(error: AiosmrtError) -> None:
    faults = Faults({})
    for name in ("e", "f"):
        faults.note(_ask(endpoint_name=name))
    assert faults.is_everybodys(error, _ask())


@pytest.mark.parametrize("error", _NEVER, ids=repr)
def test_else_it_is_the_rows_own(error: Exception) -> None:
    faults = Faults({})
    faults.note(_ask())
    assert not faults.is_everybodys(error, _ask())


@pytest.mark.parametrize("error", [_MISSING, _NO_COMPONENT, _DENIED], ids=repr)
@pytest.mark.parametrize(
    ("others", "everybodys"),
    [
        ([{}], True),
        ([{}, {"body": b"other"}], True),
        ([{"endpoint_name": "f"}], False),
        ([{"endpoint_name": "f"}, {}], False),
        ([{"inference_component_name": "d"}], False),
        ([{"target_model": "m"}], False),
    ],
)
def test_a_place_that_is_wrong_is_everybodys_while_all_rows_go_there(
    error: AiosmrtError, others: list[dict[str, object]], everybodys: bool
) -> None:
    faults = Faults({})
    for parameters in ({}, *others):
        faults.note(_ask(**parameters))
    assert faults.is_everybodys(error, _ask()) is everybodys


def test_what_a_row_does_not_say_the_clients_parameters_do() -> None:
    faults = Faults({"endpoint_name": "e"})
    faults.note(Arguments({}))
    faults.note(_ask())
    assert faults.is_everybodys(_MISSING, _ask())
    faults.note(_ask(endpoint_name="f"))
    assert not faults.is_everybodys(_MISSING, _ask())


def test_that_nobody_can_be_connected_to_is_everybodys_but_soon_after_an_answer() -> None:
    refused = ConnectError("refused")
    faults = Faults({})
    assert not faults.is_everybodys(TooManyOpenFiles("1,024 of them"), _ask())
    assert faults.is_everybodys(refused, _ask())
    assert not faults.is_everybodys(ModelError("no", status=424), _ask())
    for _ in range(2):
        faults.note_answer()
        assert not any(faults.is_everybodys(refused, _ask()) for _ in range(9))
    assert faults.is_everybodys(refused, _ask())


def test_a_wrong_time_limit_is_that_of_its_row() -> None:
    error = ConfigurationError("Timeout(total=-1)")
    assert not Faults({}).is_everybodys(error, _ask(timeout=-1))
    assert Faults({}).is_everybodys(error, _ask(timeout=1))
