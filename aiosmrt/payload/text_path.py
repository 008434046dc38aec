"""Where the documents of a language model hold its text. Pure but for one line in the log."""

from __future__ import annotations

import logging
from typing import Any, Final

from aiosmrt.errors import ConfigurationError, InvalidJSON, PayloadError
from aiosmrt.payload.misfits import Misfits
from aiosmrt.payload.shapes import SHAPES, Shape
from aiosmrt.payload.text import replace_halves
from aiosmrt.value import JSONValue

__all__ = ["TextPath"]

_log = logging.getLogger("aiosmrt")

_REASON: Final = 200  # characters of what JMESPath says, which may show a whole document


class TextPath:
    """Finds the text in each document of a stream, and notes whether any had a place for one.

    Args:
        path: the name of a preset, or a JMESPath expression.

    Attributes:
        name: of the preset; None for any other expression.
        is_preset: whether it is a preset, which knows what marks an end.
        done: the data of the event behind the last document, None where the path knows none.

    Raises:
        ConfigurationError: the path is neither.
    """

    def __init__(self, path: str) -> None:
        # An expression that is a preset's own asks for the same.
        known = (name for name, shape in SHAPES.items() if path in (name, shape.path))
        self.name: str | None = next(known, None)
        self._shape = None if self.name is None else SHAPES[self.name]
        self.is_preset: bool = self._shape is not None
        self.done: str | None = self._shape.done if self._shape is not None else None
        self._expression = self._shape.path if self._shape else path
        self._search: Any = _compile(path) if self._shape is None else None
        # Lists whose first entry has the text. A document of a stream mostly holds one choice, and
        # that need not be choice 0.
        self._lists = [n for n in ("choices", "outputs") if f"{n}[0]" in self._expression]
        self._has_told = False  # that there are other choices
        self._form: str | None = None  # of the documents that have a place for a text
        named = repr(path) + (f" ({self._expression})" if path != self._expression else "")
        self._misfits = Misfits(named, "give the JMESPath expression of the text")

    def select(self, document: JSONValue) -> JSONValue:
        """Give the document with choice 0 as its only one, where the path asks for the first."""
        if not isinstance(document, dict):
            return document
        for name in self._lists:
            choices = document.get(name)
            if isinstance(choices, list):
                first = [choice for choice in choices if _is_first(choice)][:1]
                if len(first) < len(choices):
                    self._tell_of_others()
                    document = {**document, name: first}
        return document

    def find(self, document: JSONValue) -> str | None:
        """Give the text in a document, None where it has none.

        Raises:
            InvalidJSON: the path fails on it, or gives no string.
        """
        if self._shape is not None:
            text = self._find_in(self._shape, document)
        else:
            text = self._search_for(document)
        if self._form is None:
            self._misfits.note(document)
        if text is None or isinstance(text, str):
            return text
        raise InvalidJSON(
            f"the path {self._expression!r} gives a {type(text).__name__}, not a string"
        )

    def is_end(self, document: JSONValue) -> bool:
        """Tell whether it is the last document of its answer, as far as the path knows."""
        if self._shape is None:
            return False
        end = self._shape.find_end(_find_choice(self._shape, document))
        return self._form == "whole" or end is not None

    def refuse(self) -> PayloadError | None:
        """Give the error of an end at which no document had a place for a text, if any came."""
        return None if self._form is not None else self._misfits.refuse()

    def _search_for(self, document: JSONValue) -> JSONValue:
        try:
            found: JSONValue = self._search.search(document)
        except Exception as error:  # its functions raise what Python does on what a model sends
            raise InvalidJSON(
                f"the path {self._expression!r} does not fit: {_describe(error)}"
            ) from error
        if found is not None:
            self._form = "stream"
        return found

    def _find_in(self, shape: Shape, document: JSONValue) -> JSONValue:
        """Find a text, and note in what: a stream, which may have none here, or a whole answer."""
        choice = _find_choice(shape, document)
        text = shape.find_text(choice)
        if text is not None or shape.find_holder(choice) is not None:
            self._form = "stream"
        elif self._form != "stream" and shape.find_whole_holder(choice) is not None:
            self._form = "whole"
            if isinstance(document, list) and len(document) > 1:
                self._tell_of_others()
            text = shape.find_whole_text(choice)
        return text

    def _tell_of_others(self) -> None:
        if not self._has_told:
            self._has_told = True
            _log.warning(
                "iter_tokens gives choice 0 alone: the stream has others, which are left out"
            )


def _find_choice(shape: Shape, document: JSONValue) -> JSONValue:
    choices = shape.find_choices(document)
    return choices[0] if choices else None


def _is_first(choice: JSONValue) -> bool:
    return not isinstance(choice, dict) or choice.get("index") in (0, None)


def _compile(path: str) -> Any:  # noqa: ANN401 - JMESPath has no types
    """Compile an expression, which JMESPath remembers."""
    import jmespath  # noqa: PLC0415 - start-up time

    try:
        return jmespath.compile(path)
    except Exception as error:  # its own, and those of recursion and of long numbers
        raise ConfigurationError(
            f"{path!r} is neither a preset ({', '.join(SHAPES)}) nor a JMESPath expression: "
            f"{_describe(error)}"
        ) from error


def _describe(error: Exception) -> str:
    """Say in one short line what JMESPath met."""
    try:
        reason = " ".join(str(error).split())
    except (ValueError, RecursionError):  # it shows what it met, which may be nested too deeply
        reason = ""
    if len(reason) > _REASON:
        reason = f"{reason[:_REASON]}…"
    return replace_halves(reason) or type(error).__name__
