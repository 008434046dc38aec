"""Names that rows choose for what an asynchronous invocation puts into S3: one row's each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from aiosmrt.errors import ConfigurationError, ParameterError
from aiosmrt.service import INVOKE_ENDPOINT_ASYNC, Arguments
from aiosmrt.settings import bind_parameters

__all__ = ["OutputNames"]


class OutputNames:
    """Refuses rows whose output, or failure, would be taken for that of an earlier row.

    Names that the service makes up are nobody else's, and cost nothing; of those that a row was
    given, a hash is kept, of some 70 bytes.

    Args:
        params: the client's, for what rows do not say.

    Raises:
        ConfigurationError: they give every row the same name.
    """

    def __init__(self, params: Mapping[str, object]) -> None:
        for name in ("filename", "inference_id"):
            if params.get(name) is not None:
                raise ConfigurationError(
                    f"params={{{name!r}: ...}}: the outputs of all rows would be one: give each "
                    "row its own, or none"
                )
        self._params = params
        self._taken: set[int] = set()

    def take(self, arguments: Arguments) -> None:
        """Take note of what a row's output is called.

        Raises:
            ParameterError: an earlier row had that name.
        """
        bind_parameters(INVOKE_ENDPOINT_ASYNC, self._params, arguments)
        for name, *parts in _list_names(arguments.parameters):
            known = hash((name, *map(str, parts)))
            if known in self._taken:
                raise _refuse(name, parts[-1])
            self._taken.add(known)


def _refuse(name: str, value: object) -> ParameterError:
    error = ParameterError(
        f"{name}={value!r} is that of an earlier row, too: what came of the one would be taken for "
        "the other's"
    )
    error.operation = INVOKE_ENDPOINT_ASYNC.name
    return error


def _list_names(parameters: Mapping[str, object]) -> Iterator[tuple[str, object, object, object]]:
    """Give what the objects in S3 are called after, and where names are to differ."""
    endpoint, filename = parameters.get("endpoint_name"), parameters.get("filename")
    if filename is not None:
        extension = parameters.get("s3_output_path_extension")
        yield "filename", endpoint, extension, filename
    inference_id = parameters.get("inference_id")
    if inference_id is not None:  # of failures, whatever the output's folder and name
        yield "inference_id", endpoint, None, inference_id
