"""The route on which SageMaker speaks OpenAI's API, beside its own operations. Pure.

It is described in "Invoke endpoints with OpenAI-compatible APIs", SageMaker developer guide, and in
no service model.
"""

from __future__ import annotations

from collections.abc import Collection

from aiosmrt.errors import ParameterError
from aiosmrt.service.model import INVOKE_ENDPOINT
from aiosmrt.service.operations import quote_name
from aiosmrt.service.validation import CONSTRAINTS, find_problems

__all__ = ["place_openai_route"]


def place_openai_route(
    endpoint_url: str,
    endpoint_name: str,
    inference_component_name: str | None = None,
    *,
    constraints: Collection[str] = CONSTRAINTS,
) -> str:
    """Give the base URL of an endpoint's route, or of a component's, without a slash at its end.

    Args:
        endpoint_url: of the service, without a slash at its end.
        endpoint_name: as for InvokeEndpoint.
        inference_component_name: as for InvokeEndpoint, but part of the URL here.
        constraints: those of the service model that the names must keep.

    Raises:
        ParameterError: with every problem of the names.
    """
    names: dict[str, object] = {
        "endpoint_name": endpoint_name,
        "inference_component_name": inference_component_name,
    }
    problems = find_problems(INVOKE_ENDPOINT, names, constraints)
    if names["endpoint_name"] is None:
        problems.append("endpoint_name is required")
    if inference_component_name == "" and not problems:
        problems.append("inference_component_name must not be empty")
    if problems:
        raise ParameterError(f"there is no such URL: {'; '.join(problems)}", problems=problems)
    url = f"{endpoint_url}/endpoints/{quote_name(endpoint_name)}"
    if inference_component_name is not None:
        url += f"/inference-components/{quote_name(inference_component_name)}"
    return f"{url}/openai/v1"
