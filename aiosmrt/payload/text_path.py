"""Where the documents of a language model hold its text. Pure but for one line in the log."""

from __future__ import annotations

import itertools
import logging
from typing import Any, Final

from aiosmrt.errors import ConfigurationError, InvalidJSON, PayloadError
from aiosmrt.payload.presets import PRESETS, Preset
from aiosmrt.payload.text import replace_halves
from aiosmrt.value import JSONValue

__all__ = ["TextPath"]

_log = logging.getLogger("aiosmrt")

_REASON: Final = 200  # characters of what JMESPath says, which may show a whole document
_MEMBERS: Final = 20  # names of members that an error shows
_MEMBER: Final = 40  # characters of each
_SAMPLES: Final = 8  # documents that the other presets are tried on
_KINDS: Final = {
    list: "an array",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "a boolean",
    type(None): "null",
}


class TextPath:
    """Finds the text in each document of a stream, and notes whether any had a place for one.

    Args:
        path: the name of a preset, or a JMESPath expression.

    Attributes:
        is_preset: whether it is a preset, which knows what marks an end.
        done: the data of the event behind the last document, None where the path knows none.

    Raises:
        ConfigurationError: the path is neither.
    """

    def __init__(self, path: str) -> None:
        self._name = path
        # An expression that is a preset's own asks for the same.
        known = (preset for name, preset in PRESETS.items() if path in (name, preset.text))
        self._preset = next(known, None)
        self.is_preset = self._preset is not None
        self.done = self._preset and self._preset.done
        try:
            self._text = _compile(self._preset.text if self._preset else path)
        except Exception as error:  # its own, and those of recursion and of long numbers
            raise ConfigurationError(
                f"{path!r} is neither a preset ({', '.join(PRESETS)}) nor a JMESPath expression: "
                f"{_describe(error)}"
            ) from error
        # What else tells that a document has a place for a text, here and in a whole answer.
        if self._preset is not None:
            self._search_holder = _compile(self._preset.holder).search
            self._search_whole_holder = _compile(self._preset.whole_holder).search
        # Lists whose first entry has the text. A document of a stream mostly holds one choice, and
        # that need not be choice 0.
        self._lists = [n for n in ("choices", "outputs") if f"{n}[0]" in self._text.expression]
        self._has_told = False  # that there are other choices
        self._form: str | None = None  # of the documents that have a place for a text
        self._unfit = 0  # documents that have none, before one that has
        self._members: dict[str, None] = {}  # of those, in their order
        self._fitting: set[str] = set()  # presets that find a text in those

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
        try:
            text: JSONValue = self._text.search(document)
        except Exception as error:  # its functions raise what Python does on what a model sends
            raise InvalidJSON(
                f"the path {self._text.expression!r} does not fit: {_describe(error)}"
            ) from error
        if text is not None:
            self._form = "stream"
        elif self._form != "stream":
            text = self._find_elsewhere(document)
        if text is None or isinstance(text, str):
            return text
        raise InvalidJSON(
            f"the path {self._text.expression!r} gives a {type(text).__name__}, not a string"
        )

    def is_end(self, document: JSONValue) -> bool:
        """Tell whether it is the last document of its answer, as far as the path knows."""
        if self._preset is None:
            return False
        return self._form == "whole" or _has(document, self._preset.end)

    def refuse(self) -> PayloadError | None:
        """Give the error of an end at which no document had a place for a text, if any came."""
        if self._form is not None or not self._unfit:
            return None
        expression = self._text.expression
        named = repr(self._name) + (f" ({expression})" if expression != self._name else "")
        fitting = " or ".join(repr(name) for name in PRESETS if name in self._fitting)
        return PayloadError(
            f"none of the documents that came ({self._unfit}) has what {named} asks for; they have"
            f" {', '.join(self._members) or 'no members'}:"
            f" {f'{fitting} would fit' if fitting else 'give the JMESPath expression of the text'}"
        )

    def _find_elsewhere(self, document: JSONValue) -> JSONValue:
        """Look for what a document without a text has: a place for one, or a whole answer."""
        if self._preset is not None and self._search_holder(document) is not None:
            self._form = "stream"
        elif self._preset is not None and self._search_whole_holder(document) is not None:
            self._form = "whole"
            if isinstance(document, list) and len(document) > 1:
                self._tell_of_others()
            return _search(document, self._preset.whole_text)
        elif self._form is None:
            self._note(document)
        return None

    def _note(self, document: JSONValue) -> None:
        """Keep what the error at the end would say of a document."""
        self._unfit += 1
        names = document if isinstance(document, dict) else [_KINDS[type(document)]]
        for name in itertools.islice(names, _MEMBERS - len(self._members)):
            self._members[name[:_MEMBER]] = None
        if self._unfit <= _SAMPLES:
            self._fitting.update(name for name, other in PRESETS.items() if _fits(document, other))

    def _tell_of_others(self) -> None:
        if not self._has_told:
            self._has_told = True
            _log.warning(
                "iter_tokens gives choice 0 alone: the stream has others, which are left out"
            )


def _is_first(choice: JSONValue) -> bool:
    return not isinstance(choice, dict) or choice.get("index") in (0, None)


def _fits(document: JSONValue, preset: Preset) -> bool:
    return _has(document, preset.holder) or _has(document, preset.whole_holder)


def _has(document: JSONValue, path: str) -> bool:
    return _search(document, path) is not None


def _search(document: JSONValue, path: str) -> JSONValue:
    found: JSONValue = _compile(path).search(document)
    return found


def _compile(path: str) -> Any:  # noqa: ANN401 - JMESPath has no types
    """Compile an expression, which JMESPath remembers."""
    import jmespath  # noqa: PLC0415 - start-up time

    return jmespath.compile(path)


def _describe(error: Exception) -> str:
    """Say in one short line what JMESPath met."""
    try:
        reason = " ".join(str(error).split())
    except (ValueError, RecursionError):  # it shows what it met, which may be nested too deeply
        reason = ""
    if len(reason) > _REASON:
        reason = f"{reason[:_REASON]}…"
    return replace_halves(reason) or type(error).__name__
