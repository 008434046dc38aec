"""What is said of streams that are read as a language model's: OpenTelemetry's GenAI conventions.

They are in development, and are followed where the environment variable
`OTEL_SEMCONV_STABILITY_OPT_IN` has `gen_ai_latest_experimental` in it, by the names that
OpenTelemetry's own instrumentations for Python have by now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self, TypeGuard

import attrs
from opentelemetry.metrics import Histogram, Meter

from aiosmrt.hooks import OnEnd
from aiosmrt.otel.attributes import ERROR_TYPE, Attributes
from aiosmrt.value import JSONValue

__all__ = ["OPT_IN", "GenAIInstruments", "describe_model_call", "find_operation", "read_usage"]

OPT_IN = "gen_ai_latest_experimental"

# By the view of a stream; all that is not a chat completes a text.
_CHAT = ("chat:openai-chat", "tokens:openai-chat")
_VIEWS = ("chat", "tokens")

_DOUBLING = tuple(0.01 * 2**power for power in range(14))  # 10 ms to 82 s, as the conventions say
_FOURFOLD = tuple(4**power for power in range(14))

_INPUT, _OUTPUT = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"
_CACHED = "gen_ai.usage.cache_read.input_tokens"
_REASONING = "gen_ai.usage.reasoning.output_tokens"


def find_operation(view: str | None) -> str | None:
    """Tell what a model does whose stream is read by that view; `None` where that is not known."""
    if view is None or view.partition(":")[0] not in _VIEWS:
        return None
    return "chat" if view in _CHAT else "text_completion"


def describe_model_call(operation: str, endpoint_name: str) -> Attributes:
    """Give what spans and metrics have in common; on SageMaker the endpoint stands for a model."""
    return {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "aws.sagemaker",
        "gen_ai.request.model": endpoint_name,
    }


def read_usage(usage: Mapping[str, JSONValue] | None) -> Attributes:
    """Give the tokens that a model's server has counted."""
    if usage is None:
        return {}
    found = {
        _INPUT: usage.get("prompt_tokens"),
        _OUTPUT: usage.get("completion_tokens"),
        _CACHED: _look_into(usage.get("prompt_tokens_details"), "cached_tokens"),
        _REASONING: _look_into(usage.get("completion_tokens_details"), "reasoning_tokens"),
    }
    return {name: count for name, count in found.items() if _is_count(count)}


def _is_count(value: JSONValue) -> TypeGuard[int]:
    # What exceeds 64 bits fails an exporter, again with all that is measured later.
    return value.__class__ is int and 0 <= value < 2**63


def _look_into(details: JSONValue, name: str) -> JSONValue:
    return details.get(name) if isinstance(details, dict) else None


@attrs.frozen(eq=False)
class GenAIInstruments:
    """The instruments of one meter for such streams."""

    duration: Histogram
    time_to_first_chunk: Histogram
    time_per_chunk: Histogram
    token_usage: Histogram

    @classmethod
    def of(cls, meter: Meter) -> Self:
        """Make them."""

        def make(name: str, description: str) -> Histogram:
            return meter.create_histogram(
                f"gen_ai.client.operation.{name}",
                unit="s",
                description=description,
                explicit_bucket_boundaries_advisory=_DOUBLING,
            )

        return cls(
            duration=make("duration", "How long a model's stream took, to its end."),
            time_to_first_chunk=make(
                "time_to_first_chunk", "From the beginning of a call to the first of its stream."
            ),
            time_per_chunk=make(
                "time_per_output_chunk", "From what came at once of a stream to what came next."
            ),
            token_usage=meter.create_histogram(
                "gen_ai.client.token.usage",
                unit="{token}",
                description="Tokens of a call, as the model's server has counted them.",
                explicit_bucket_boundaries_advisory=_FOURFOLD,
            ),
        )

    def measure(self, event: OnEnd, dimensions: Attributes, time_to_first: float | None) -> None:
        """Take the measures of a stream that is over."""
        self.duration.record(event.elapsed, dimensions)
        if ERROR_TYPE in dimensions:
            dimensions = {name: value for name, value in dimensions.items() if name != ERROR_TYPE}
        if time_to_first is not None:
            self.time_to_first_chunk.record(time_to_first, dimensions)
        usage = read_usage(event.usage)
        for kind, name in (("input", _INPUT), ("output", _OUTPUT)):
            if name in usage:
                typed = {**dimensions, "gen_ai.token.type": kind}
                self.token_usage.record(int(usage[name]), typed)
