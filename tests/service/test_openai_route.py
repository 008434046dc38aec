from __future__ import annotations

from typing import Any

import pytest

from aiosmrt.errors import ParameterError
from aiosmrt.service.openai_route import place_openai_route

URL = "https://runtime.sagemaker.us-east-1.amazonaws.com"


def test_an_endpoint_and_a_component_have_a_place() -> None:
    assert place_openai_route(URL, "my-llm") == f"{URL}/endpoints/my-llm/openai/v1"
    assert (
        place_openai_route(URL, "my-llm", "part-1")
        == f"{URL}/endpoints/my-llm/inference-components/part-1/openai/v1"
    )


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ((None,), "endpoint_name is required"),
        (("",), "endpoint_name must not be empty"),
        (("a/b",), "endpoint_name must match"),
        (("e" * 64,), "endpoint_name must be at most 63 characters"),
        ((7,), "endpoint_name must be a str"),
        (("e", "-c"), "inference_component_name must match"),
        (("e", ""), "inference_component_name must"),
        (("e", b"c"), "inference_component_name must be a str"),
    ],
)
def test_names_are_checked(names: tuple[Any, ...], problem: str) -> None:
    with pytest.raises(ParameterError, match=problem) as caught:
        place_openai_route(URL, *names)
    assert len(caught.value.problems) == 1


def test_every_problem_is_named() -> None:
    with pytest.raises(ParameterError) as caught:
        place_openai_route(URL, "a b", "c d")
    assert len(caught.value.problems) == 2


def test_unchecked_names_still_cannot_leave_their_place() -> None:
    made = place_openai_route(URL, "a/../b", "c?d", constraints=())
    assert made == f"{URL}/endpoints/a%2F..%2Fb/inference-components/c%3Fd/openai/v1"
    with pytest.raises(ParameterError, match="must not be empty"):
        place_openai_route(URL, "e", "", constraints=())
