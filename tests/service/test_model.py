"""The service model in the installed botocore has a counterpart here for everything it says."""

from __future__ import annotations

import typing
from typing import Any

import botocore
import botocore.loaders
import pytest

import aiosmrt.errors
from aiosmrt.async_inference.invocation import AsyncInvocation
from aiosmrt.models import InvokeEndpointResponse, PayloadPart
from aiosmrt.response_stream import ResponseStream
from aiosmrt.service import parameters
from aiosmrt.service.model import API_VERSION, OPERATIONS, SIGNING_NAME, Member, Shape, spell

Model = dict[str, Any]


@pytest.fixture(scope="module")
def model() -> Model:
    loader = botocore.loaders.Loader()
    loaded: Model = loader.load_service_model("sagemaker-runtime", "service-2")
    return loaded


OPERATION_NAMES = sorted(OPERATIONS)


def test_the_newest_api_version_is_ours(model: Model) -> None:
    assert model["metadata"]["apiVersion"] == API_VERSION
    assert model["metadata"]["signingName"] == SIGNING_NAME
    assert model["metadata"]["protocol"] == "rest-json"


def test_every_operation_is_here(model: Model) -> None:
    assert sorted(model["operations"]) == OPERATION_NAMES


@pytest.mark.parametrize("name", OPERATION_NAMES)
def test_every_operation_is_called_as_the_model_says(model: Model, name: str) -> None:
    http = model["operations"][name]["http"]
    ours = OPERATIONS[name]
    assert http["method"] == "POST"
    assert http["requestUri"] == "/endpoints/{EndpointName}" + ours.path
    assert http.get("responseCode", 200) == ours.status


def _describe(model: Model, structure: str) -> dict[str, dict[str, object]]:
    """What the model says of the members of a structure, in our words."""
    shape = model["shapes"][structure]
    described: dict[str, dict[str, object]] = {}
    for name, member in shape["members"].items():
        target = model["shapes"][member["shape"]]
        location = member.get("location")
        if location is None:
            location = "payload" if shape.get("payload") == name else "json"
        kind = "stream" if target.get("eventstream") else target["type"]
        described[name] = {
            "shape": member["shape"],
            "kind": "string" if kind == "string" else kind,
            "location": location,
            "header": member.get("locationName") if location == "header" else None,
            "required": name in shape.get("required", ()),
            "min": target.get("min"),
            "max": target.get("max"),
            "pattern": target.get("pattern"),
            "enum": tuple(target.get("enum", ())),
            "sensitive": bool(target.get("sensitive")),
        }
    return described


def _describe_ours(members: tuple[Member, ...]) -> dict[str, dict[str, object]]:
    def describe(shape: Shape, member: Member) -> dict[str, object]:
        return {
            "shape": shape.name,
            "kind": shape.kind,
            "location": member.location,
            "header": member.header,
            "required": member.required,
            "min": shape.min,
            "max": shape.max,
            "pattern": shape.pattern,
            "enum": shape.enum,
            "sensitive": shape.sensitive,
        }

    return {member.name: describe(member.shape, member) for member in members}


@pytest.mark.newest_botocore
@pytest.mark.parametrize("direction", ["request", "response"])
@pytest.mark.parametrize("name", OPERATION_NAMES)
def test_every_member_and_constraint_is_here(model: Model, name: str, direction: str) -> None:
    operation = model["operations"][name]
    theirs = _describe(model, operation["input" if direction == "request" else "output"]["shape"])
    ours = OPERATIONS[name]
    mine = _describe_ours(ours.request if direction == "request" else ours.response)
    missing = theirs.keys() - mine.keys()
    assert not missing, f"{name} has {direction} members that are not here: {sorted(missing)}"
    for member, description in theirs.items():
        assert mine[member] == description, f"{name}.{member} differs from the model"
    assert mine.keys() == theirs.keys()


@pytest.mark.parametrize("name", OPERATION_NAMES)
def test_every_parameter_is_typed_for_editors(name: str) -> None:
    typed = getattr(parameters, f"{name}Parameters")
    hints = typing.get_type_hints(typed, vars(parameters) | {"ssl": None, "aiohttp": None})
    options = typing.get_type_hints(parameters.CallOptions)
    assert hints.keys() - options.keys() == OPERATIONS[name].parameters.keys()


def test_every_response_member_has_an_attribute() -> None:
    results = {
        "InvokeEndpoint": InvokeEndpointResponse,
        "InvokeEndpointAsync": AsyncInvocation,
        "InvokeEndpointWithResponseStream": ResponseStream,
    }
    assert results.keys() == OPERATIONS.keys()
    for name, result in results.items():
        names = set(dir(result)) | set(getattr(result, "__annotations__", {}))
        if result is ResponseStream:
            # Set per stream; the body is the stream itself.
            names |= set(ResponseStream.__init__.__code__.co_names) | {"body"}
        for member in OPERATIONS[name].response:
            assert member.parameter in names, f"{name} has no {member.parameter}"


def test_every_error_has_a_class_with_its_members(model: Model) -> None:
    for name in OPERATION_NAMES:
        theirs = [error["shape"] for error in model["operations"][name]["errors"]]
        assert sorted(theirs) == sorted(OPERATIONS[name].errors)
    extra = {"Message": "message", "OriginalStatusCode": "original_status_code"}
    for shape_name, shape in model["shapes"].items():
        if not shape.get("exception"):
            continue
        kind = getattr(aiosmrt.errors, shape_name, None)
        assert kind is not None, f"there is no class for {shape_name}"
        error = kind("")
        for member in shape["members"]:
            spelled = extra.get(member) or spell(member)
            assert hasattr(error, spelled), f"{shape_name} has no {spelled}"


def test_every_event_of_the_stream_is_here(model: Model) -> None:
    members = set(model["shapes"]["ResponseStream"]["members"])
    assert members == {"PayloadPart", "ModelStreamError", "InternalStreamFailure"}
    assert set(model["shapes"]["PayloadPart"]["members"]) == {"Bytes"}
    assert PayloadPart(b"x").bytes == b"x"


def test_the_spelling_is_botocores(model: Model) -> None:
    for shape in model["shapes"].values():
        for name in shape.get("members", {}):
            assert spell(name) == botocore.xform_name(name)
