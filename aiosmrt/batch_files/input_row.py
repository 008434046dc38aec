"""What of a row of the input is its key, and what the body of its request. Pure."""

from __future__ import annotations

import json
import re
from typing import Any, Final, Protocol, TypeAlias

import attrs

from aiosmrt.errors import ParameterError
from aiosmrt.redaction import redact

__all__ = ["InputRow", "Key", "RowReader", "parse_json"]

Key: TypeAlias = str | int
"""What a row is known by."""

_encode: Final = json.JSONEncoder(allow_nan=False).encode
_REASON: Final = 200  # characters of what JMESPath says, which may show a whole document


class _Path(Protocol):
    def search(self, value: Any) -> Any: ...  # noqa: ANN401 - jmespath is not typed


# Not frozen: one is made per row.
@attrs.define(eq=False)
class InputRow:
    """A row as it is sent.

    Attributes:
        index: counts from 0.
        key: what it is known by; the index where nothing else was chosen.
        place: where it stands in the input, such as `rows.jsonl:17`.
        body: of the request, in bytes or as text.
        content_type: of a body that is JSON; `None` where the row says nothing of it.
    """

    index: int
    key: Key
    place: str
    body: bytes | str = attrs.field(repr=redact)
    content_type: str | None


class RowReader:
    """Finds key and body of a row by two JMESPath expressions.

    Args:
        body: where the body is; without one the whole row is it.
        key: where the key is; without one it is the index.

    Raises:
        ParameterError: an expression is none.
    """

    def __init__(self, body: str | None = None, key: str | None = None) -> None:
        self._body = None if body is None else _compile("--body-path", body)
        self._key = None if key is None else _compile("--key-path", key)
        self._names = body, key

    @property
    def has_keys(self) -> bool:
        """Whether rows have keys of their own, which may be the same in two."""
        return self._key is not None

    def read(self, index: int, place: str, value: object, written: bytes | None = None) -> InputRow:
        """Make a row of a value.

        Args:
            index: of the row.
            place: where it stands, for errors.
            value: as JSON has them; bytes, which JSON has not, can be a body.
            written: the value as the input has it, which is sent where all of it is the body: no
                number loses a digit.

        Raises:
            ParameterError: the row has no body, or no key.
        """
        body: object = value
        if self._body is not None:
            body, written = _search(self._body, value, place, f"--body-path {self._names[0]}"), None
        if body is None:
            why = f"--body-path {self._names[0]} finds nothing" if self._body else "it is null"
            raise ParameterError(f"{place}: there is no body: {why}")
        key: Key = index
        if self._key is not None:
            found = _search(self._key, value, place, f"--key-path {self._names[1]}")
            if isinstance(found, bool) or not isinstance(found, str | int):
                kind = "nothing" if found is None else f"a {type(found).__name__}"
                raise ParameterError(
                    f"{place}: there is no key: --key-path {self._names[1]} finds {kind}, and "
                    "not a string or a whole number"
                )
            key = found
        if isinstance(body, str) and not body.isascii():
            try:
                body.encode()
            except UnicodeEncodeError as error:  # half of a surrogate pair, which JSON may have
                raise ParameterError(f"{place}: the body cannot be written: {error}") from None
        if isinstance(body, str | bytes):
            return InputRow(index, key, place, body, None)
        if written is None:
            try:
                written = _encode(body).encode()
            except (TypeError, ValueError, RecursionError) as error:
                raise ParameterError(
                    f"{place}: the body cannot be written as JSON: {error}"
                ) from None
        return InputRow(index, key, place, written, "application/json")


def parse_json(line: bytes, place: str) -> object:
    """Parse a row that is a JSON document.

    Raises:
        ParameterError: it is none.
    """
    try:
        return _decode(line.decode())
    except RecursionError:
        problem = "it is nested too deeply"
    except ValueError as error:  # what is no UTF-8, too
        problem = str(error)
    raise ParameterError(f"{place}: this is no JSON: {problem}")


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no number of JSON's")


_decode: Final = json.JSONDecoder(parse_constant=_refuse_constant).decode


@attrs.frozen
class _Names:
    """The expression that nearly all are, names with dots between, at a tenth of the cost."""

    names: list[str]

    def search(self, value: object) -> object:
        for name in self.names:
            value = value.get(name) if isinstance(value, dict) else None
        return value


def _compile(option: str, path: str) -> _Path:
    if re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", path, re.ASCII):
        return _Names(path.split("."))
    import jmespath  # noqa: PLC0415 - start-up time

    try:
        compiled: _Path = jmespath.compile(path)
    except Exception as error:  # noqa: BLE001 - its own, and those of recursion and long numbers
        reason = " ".join(str(error).split())[:_REASON]
        raise ParameterError(f"{option} {path!r} is no JMESPath expression: {reason}") from None
    return compiled


def _search(path: _Path, value: object, place: str, option: str) -> object:
    try:
        return path.search(value)
    except Exception as error:  # noqa: BLE001 - functions of JMESPath raise what they like
        reason = " ".join(str(error).split())[:_REASON]
        raise ParameterError(f"{place}: {option} fails: {reason}") from None
