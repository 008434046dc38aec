"""The text that language models stream, out of the usual shapes of JSON. Pure.

What the pieces of text are called differs from server to server; a JMESPath expression says it.
"""

from __future__ import annotations

from aiosmrt.errors import AiosmrtError, InvalidJSON, ModelStreamError
from aiosmrt.payload.failures import find_failure
from aiosmrt.payload.model_documents import ModelDocumentDecoder, name_truncated
from aiosmrt.payload.reports import IDLE
from aiosmrt.payload.text import HalfJoiner
from aiosmrt.payload.text_path import TextPath
from aiosmrt.value import JSONValue

__all__ = ["TokenDecoder"]


class TokenDecoder(ModelDocumentDecoder[str]):
    """Turns a payload of JSON lines or server-sent events into pieces of text.

    The text can be written as UTF-8, whatever a model escapes: the halves of a surrogate pair in
    two pieces become one character, and half of one alone becomes U+FFFD.

    Args:
        path: the name of a preset, or a JMESPath expression that gives a string, or null where
            there is no text.
        content_type: of the payload.
        done: the data of the event that marks the end; a preset knows its own.
        require_done: whether an end without it is an error. For documents that are no events, and
            servers that send none, it is what only the last document of a preset has.

    Raises:
        ConfigurationError: the path is neither.
        ValueError: `require_done` with an expression and without `done`.
    """

    def __init__(
        self,
        path: str,
        content_type: str | None = None,
        *,
        done: str | None = None,
        require_done: bool = False,
    ) -> None:
        self._path = TextPath(path)
        self.shape: str | None = self._path.name
        if require_done and done is None and not self._path.is_preset:
            raise ValueError("require_done needs done, or a preset, which knows what marks the end")
        super().__init__(content_type, self._path.done if done is None else done.strip(IDLE))
        self._requires_done = require_done
        self._is_complete = False  # by what only the last document has
        self._joiner = HalfJoiner()

    def read(self, document: JSONValue, values: list[str]) -> ModelStreamError | None:
        """Add the text in a document, if any, and give the failure that it reports.

        Raises:
            InvalidJSON: the path fails on it, or gives no string.
        """
        document = self._path.select(document)
        try:
            text = self._path.find(document)
        except InvalidJSON:
            failure = find_failure(document)
            if failure is None:
                raise
            return failure
        if self._requires_done and not self._is_complete:
            self._is_complete = self._path.is_end(document)
        failure = find_failure(document, has_text=bool(text))
        if (
            failure is not None
            and not self._path.is_preset
            and find_failure(document, by_reason=False)
        ):
            return failure  # an expression may find the report's own words
        if text and (self._joiner.half or not text.isascii()):
            text = self._joiner.join(text)
        if text:
            values.append(text)
        return failure

    def _flush(self) -> list[str]:
        rest = self._joiner.flush()
        return [rest] if rest else []

    def _refuse_end(self) -> AiosmrtError | None:
        error = self._path.refuse()
        if error is None and self._requires_done and not self._is_proven():
            by_event = self._done is not None and self.framing != "documents"
            return name_truncated(f"the event {self._done!r}" if by_event else "its last document")
        return error

    def _is_proven(self) -> bool:
        if self._done is None or self.framing == "documents":
            return self._is_complete
        return self._is_marked
