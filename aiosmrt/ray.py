"""An endpoint as a step of a Ray Data pipeline: rows in, rows with the endpoint's answers out.

It needs nothing of Ray but that it calls what it is given: see `Invoke`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from aiosmrt.batch import OperationName, Outcome
from aiosmrt.client import SageMakerRuntimeClient
from aiosmrt.errors import ConfigurationError
from aiosmrt.models import AsyncInferenceOutput, InvokeEndpointResponse
from aiosmrt.service import ClientOptions, InvokeEndpointParameters

__all__ = ["Invoke"]

Row: TypeAlias = dict[str, Any]
Answer: TypeAlias = InvokeEndpointResponse | AsyncInferenceOutput

# They would be pickled to every worker, and written down by some stores on the way.
_SECRET: Final = ("aws_secret_access_key", "aws_session_token", "credentials", "session")
_VIEWS: Final[dict[str, Callable[[Answer], object]]] = {
    "bytes": lambda answer: answer.body,
    "text": lambda answer: answer.text(),
    "json": lambda answer: answer.json(),
}
_COLUMNS: Final = (
    *("response", "content_type", "request_id", "attempts"),
    *("error", "error_type", "may_have_run"),
)


class Invoke:
    """A callable class for `Dataset.map_batches`, in a pool of actors with a client each.

    The columns of a batch come out as they are, and behind them, in the order of the rows:
    `response`, `content_type`, `request_id`, `attempts` (how many requests were begun), `error`
    (text), `error_type` (the class's name) and `may_have_run` (whether the model may have done the
    work of a row that failed). Where a row has a response, the last three are null.

    A worker that dies takes its batches along, and Ray runs them again: their rows may run twice.

    Args:
        request: the name of the column that has each row's body (bytes, text, or a value that
            becomes JSON), or a function of a row that gives the parameters of the call.
        response: how an answer is given: `"bytes"`, `"text"`, `"json"`, or a function of it.
        operation: the client's method that each row goes through.
        max_in_flight: calls that an actor makes at a time, over all batches that it has; `"auto"`
            finds out how many the endpoint takes.
        result_timeout: seconds that an asynchronous invocation may take; `None` is no limit.
        on_error: `"column"` gives a failed row its `error`; `"raise"` has it fail the job.
        client: options of the client. Credentials are found where the actor runs, as in any program
            there (role, profile, environment), and are none of them.
        parameters: of every call, such as `endpoint_name`; those of a row win.

    Attributes:
        client: makes the calls; it lives as long as the actor.

    Raises:
        ConfigurationError: an option that cannot be used, or a secret among those of the client.
        TypeError: a parameter that the operation does not have.
    """

    def __init__(
        self,
        *,
        request: str | Callable[[Row], InvokeEndpointParameters] = "body",
        response: Literal["bytes", "text", "json"] | Callable[[Answer], object] = "text",
        operation: OperationName = "invoke_endpoint",
        max_in_flight: int | Literal["auto"] = 32,
        result_timeout: float | None = 900.0,
        on_error: Literal["column", "raise"] = "column",
        client: ClientOptions | None = None,
        **parameters: object,
    ) -> None:
        if on_error not in ("column", "raise"):
            raise ConfigurationError(f"on_error={on_error!r}: 'column' or 'raise'")
        if not callable(response) and response not in _VIEWS:
            raise ConfigurationError(
                f"response={response!r}: {', '.join(map(repr, _VIEWS))}, or a function of an answer"
            )
        options: dict[str, Any] = {**(client or {})}
        secret = [name for name in _SECRET if name in options]
        if secret:
            raise ConfigurationError(
                f"client={{{secret[0]!r}: ...}}: it would be pickled to every worker; credentials "
                "are found where the actors run, by a role, a profile_name or the environment"
            )
        if max_in_flight != "auto":
            # Batches that an actor has at the same time share its connections.
            options.setdefault("max_connections", max_in_flight)
        self._options = {**options, "params": {**options.get("params", {}), **parameters}}
        self._request = request
        self._response = response if callable(response) else _VIEWS[response]
        self._operation = operation
        self._max_in_flight = max_in_flight
        self._result_timeout = result_timeout
        self._raises = on_error == "raise"
        self.client: SageMakerRuntimeClient = SageMakerRuntimeClient(**self._options)

    async def __call__(self, batch: Mapping[str, Sequence[Any]]) -> AsyncIterator[dict[str, Any]]:
        """Give a batch with its answers.

        Args:
            batch: its columns by name, as Ray has them by default (`batch_format="numpy"`).

        Raises:
            TypeError: the batch is no mapping of columns.
            AiosmrtError: what would hit every row, or, with `on_error="raise"`, that of a row.
        """
        if not isinstance(batch, Mapping):
            raise TypeError(
                f"a batch is a mapping of columns, not {type(batch).__qualname__}: leave "
                "map_batches its batch_format, or say 'numpy'"
            )
        columns: dict[str, Any] = dict(batch)
        rows = [
            dict(zip(columns, values, strict=True))
            for values in zip(*columns.values(), strict=True)
        ]
        answers: list[dict[str, object]] = [{}] * len(rows)
        requests: list[Any] = []
        for number, row in enumerate(rows):
            try:
                requests.append((number, self._build(row)))
            except Exception as unmade:  # whatever a function of the user's raises
                if self._raises or isinstance(unmade, ConfigurationError):
                    raise
                answers[number] = _describe_unsent(unmade)
        outcomes = self.client.map(
            requests,
            operation=self._operation,
            max_in_flight=self._max_in_flight,
            result_timeout=self._result_timeout,
        )
        async with outcomes:
            async for outcome in outcomes:
                error = outcome.error
                if error is not None and self._raises:
                    try:
                        raise error
                    finally:
                        del error, outcome  # or its traceback and this frame would keep each other
                assert isinstance(outcome.key, int)  # noqa: S101 - as it was given
                answers[outcome.key] = self._describe(outcome)
        yield {**columns, **{name: [answer[name] for answer in answers] for name in _COLUMNS}}

    async def aclose(self) -> None:
        """Close the client; who calls it without Ray does so, Ray ends the actor."""
        await self.client.aclose()

    def _build(self, row: Row) -> Any:  # noqa: ANN401 - of whichever operation
        """Give a row's request; what is none becomes the row's error.

        Raises:
            ConfigurationError: there is no such column.
            Exception: what a function of the user's raises.
        """
        if callable(self._request):
            request: Any = self._request(row)
            if isinstance(request, Mapping) and "json" in request:
                return {**request, "json": _make_json(request["json"])}
            return request
        if self._request not in row:
            known = ", ".join(row)
            raise ConfigurationError(f"request={self._request!r}: the columns are {known}")
        body = row[self._request]
        if isinstance(body, bytes | str):
            return {"body": body}
        return {"json": _make_json(body)}

    def _describe(self, outcome: Outcome[Answer]) -> dict[str, object]:
        known = dict[str, Any](dict.fromkeys(_COLUMNS))
        known["attempts"] = len(outcome.attempts)
        error = outcome.error
        if outcome.response is not None:
            known["content_type"] = outcome.response.content_type
            known["request_id"] = outcome.response.metadata.request_id
            try:
                known["response"] = self._response(outcome.response)
            except Exception as unread:  # whatever a function of the user's raises
                if self._raises:
                    raise
                error = unread
                known["may_have_run"] = True  # there is an answer
        if error is not None:
            known["error"], known["error_type"] = str(error), type(error).__name__
            known["may_have_run"] = known["may_have_run"] or getattr(error, "may_have_run", False)
            known["request_id"] = known["request_id"] or getattr(error, "request_id", None)
        return known


def _describe_unsent(error: Exception) -> dict[str, object]:
    return {
        **dict.fromkeys(_COLUMNS),
        "attempts": 0,
        "error": str(error),
        "error_type": type(error).__name__,
        "may_have_run": False,
    }


def _make_json(value: Any) -> object:  # noqa: ANN401 - of whatever a column has
    """Give JSON's values for those of NumPy, as which Ray has lists also within other values."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {name: _make_json(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_make_json(item) for item in value]
    return value
