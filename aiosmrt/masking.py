"""Secrets of a request that somebody else's words repeat, and what is shown in their place.

A service that refuses a signature quotes what it has computed, headers and all: the session token,
percent-encoded in a query, byte by byte in hexadecimal, or cut short. A server that is none of
AWS's may give back the whole request as a page.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import attrs

__all__ = ["Secrets", "mask_named"]

_MASK: Final = "****"

# Characters of a secret that are searched for as a whole or not at all. Shorter ones would be found
# in words that have nothing to do with them.
_SHORTEST: Final = 8
# Characters that a text and a secret of random characters must have in common to be masked.
_COMMON: Final = 12
_GRAM: Final = 8  # characters that are looked up at a time
_BEHIND_EXCERPTS: Final = "…'\""
_RANDOM: Final = 24  # characters of a secret, from which on a part of it tells

# A secret, and its grams if it is known by a part of it.
_Searched: TypeAlias = tuple[str, frozenset[str] | None]

# How deep the words of a JSON document may be to be given, where others of it are masked.
_DEEPEST: Final = 100

# How often a text may have been encoded before it is read.
_LAYERS: Final = 3

# Expressions are compiled when they are used first, which is not at the start of a program.

# What stands for a character in a URL, in JSON (or a literal of a programming language), in XML and
# HTML. Blanks may stand anywhere in a text that is broken into lines.
_ENCODED: Final = (
    r"%[0-9A-Fa-f]{2}|\\u00[0-9A-Fa-f]{2}|\\x[0-9A-Fa-f]{2}|\\[nrt]?"
    r"|&(?:#0*[0-9]{1,3}|#[xX]0*[0-9A-Fa-f]{1,2}|amp|quot|apos|lt|gt);"
)
_ENTITIES: Final = {"amp": "&", "apos": "'", "gt": ">", "lt": "<", "quot": '"'}

# What stands before a secret: its name in a header, a query, JSON or XML; a signature's; and a
# scheme (RFC 9110, section 11.1).
_NAMES: Final = (
    r"x-amz-(?:security|s3session)-token|x-amz-server-side-encryption-customer-key"
    r"|(?:aws[_-]?)?(?:session[_-]?token|secret[_-]?access[_-]?key)|web[_-]?identity[_-]?token"
    r"|(?:access|bearer|id|refresh)[_-]?token|client[_-]?secret|(?<=[\"'<])token(?:-[0-9])?(?=\\*[\"'>])"
    r"|(?:password|passwd|api[_-]?key)(?=\\*[\"'>]|=|%3D)"
)
_NAMED: Final = (
    rf"(?i)((?:{_NAMES})\\*[\"']?\s*(?::\s*|=|>|%3A|%3D)\\*[\"']?)(?!\.\.\.)"
    r"(?:[^\s\"'<>&,;\\]|\\(?![\"']))+"
    r"|(signature\\*[\"']?\s*(?::\s*|=|>|%3D)\\*[\"']?)[0-9a-f]{16,}"
    r"|((?:bedrock|sagemaker)-api-key-)[\w+/=%-]+"
    r"|(authorization\\*[\"']?\s*[:=]\s*\\*[\"']?(?:basic|bearer|digest|negotiate)\s+)[^\s\"'<>,;]+"
)
# A part of each name, which is found in a thousandth of the time. None has an "i": to an expression
# that ignores case one without its dot is the same, and to `casefold` it is not.
_HINTS: Final = ("token", "secret", "key", "passw", "nature", "author")


def mask_named(text: str) -> str:
    """Mask what stands behind the name of a secret, whoever's it is."""
    if not _may_name(text):
        return text
    return re.sub(_NAMED, lambda found: f"{found[found.lastindex or 0]}{_MASK}", text)


def _is_named(text: str) -> bool:
    return _may_name(text) and re.search(_NAMED, text) is not None


def _may_name(text: str) -> bool:
    folded = text.casefold()
    return any(hint in folded for hint in _HINTS)


@attrs.frozen(repr=False, eq=False)
class Secrets:
    """What must not be shown of a request.

    Attributes:
        random: tokens, keys, signatures: a part of one is masked, too.
        worded: values that people have chosen: masked where they stand as a whole.
    """

    random: tuple[str, ...] = attrs.field(repr=False)
    worded: tuple[str, ...] = attrs.field(default=(), repr=False)

    def __repr__(self) -> str:
        return f"<{len(self.random) + len(self.worded)} secrets>"

    def mask(self, text: str) -> str:
        """Mask each of them in a text, however it is encoded there, and what is named as one."""
        shown: list[str] = []
        end = 0
        for begin, next_end in self._find(text):
            # PHP's JSON has a backslash before a slash, which stands for nothing by itself.
            shown += (text[end:begin].rstrip("\\"), _MASK)
            end = next_end
        return mask_named("".join([*shown, text[end:]]))

    def mask_error(self, error: BaseException) -> None:
        """Mask them in all the words of an error, of its notes and of its causes; not in bytes."""
        link: BaseException | None = error
        while link is not None:
            # An error has the same words in several places, and they may be a long page.
            words = dict.fromkeys(_list_words([link.args, vars(link)]))
            # Mostly there is nothing.
            if self._occur("\n".join(words)) or any(map(_is_named, words)):
                shown: dict[str, str] = {}
                link.args = self._mask_value(link.args, shown)
                link.__dict__.update(self._mask_value(vars(link), shown))
            link = link.__cause__

    def _mask_value(self, value: Any, shown: dict[str, str], depth: int = 0) -> Any:  # noqa: ANN401 - whatever an error has
        if isinstance(value, str):
            if value not in shown:
                shown[value] = self.mask(value)
            return shown[value]
        if depth > _DEEPEST:
            return _MASK
        if isinstance(value, dict):
            pairs = value.items()
            return {
                self._mask_value(name, shown): self._mask_value(item, shown, depth + 1)
                for name, item in pairs
            }
        if type(value) in (list, tuple):
            return type(value)(self._mask_value(item, shown, depth + 1) for item in value)
        return value

    def _occur(self, text: str) -> bool:
        plain = _decode(text)
        grams = [plain[start : start + _GRAM] for start in range(0, len(plain), _GRAM)]
        return any(
            word[:_SHORTEST] in plain if known is None else not known.isdisjoint(grams)
            for word, known in self._list_searched()
        )

    def _find(self, text: str) -> list[tuple[int, int]]:
        """Give where in the text they are, in order."""
        plain, begins, ends = _decode_with_places(text)
        covered = bytearray(len(plain))
        for word, known in self._list_searched():
            for begin, end in _match(word, known, plain):
                covered[begin:end] = b"\1" * (end - begin)
        return [
            (begins[found.start()], ends[found.end() - 1])
            for found in re.finditer(b"\1+", bytes(covered))
        ]

    def _list_searched(self) -> Iterator[_Searched]:
        for secret in self.worded:
            yield from _prepare_whole(_decode(secret))
        for secret in self.random:
            yield from _prepare(secret)


@functools.lru_cache(16)
def _prepare(secret: str) -> tuple[_Searched, ...]:
    word = _decode(secret)
    # S3 shows the bytes that it has hashed in hexadecimal.
    forms = (word, word.encode("utf-8", "replace").hex())
    if len(word) < _RANDOM:
        return tuple(itertools.chain(*map(_prepare_whole, forms)))
    return tuple((form, _list_grams(form)) for form in forms)


def _prepare_whole(word: str) -> Iterator[_Searched]:
    if len(word) >= _SHORTEST:
        yield word, None


def _list_grams(word: str) -> frozenset[str]:
    return frozenset(word[start : start + _GRAM] for start in range(len(word) - _GRAM + 1))


def _match(word: str, known: frozenset[str] | None, plain: str) -> Iterator[tuple[int, int]]:
    """Give where a secret is in a plain text: as a whole, or in parts if its grams are known."""
    return _match_whole(word, plain) if known is None else _match_parts(word, known, plain)


def _match_whole(word: str, plain: str) -> Iterator[tuple[int, int]]:
    yield from ((begin, begin + len(word)) for begin in _find_all(word, plain))
    # An excerpt may end in the middle of it.
    end = len(plain.rstrip(_BEHIND_EXCERPTS))
    for size in range(min(len(word), end), _SHORTEST - 1, -1):
        if plain.endswith(word[:size], 0, end):
            yield end - size, end
            break


def _match_parts(word: str, known: frozenset[str], plain: str) -> Iterator[tuple[int, int]]:
    # Whatever they have in common, at least one gram of it begins at a multiple of its length.
    # By how far one is ahead of the other: what they have in common is gone through once.
    ends: dict[int, int] = {}
    for start in range(0, len(plain), _GRAM):
        gram = plain[start : start + _GRAM]
        if gram in known:
            for found in _find_all(gram, word):
                if ends.get(start - found, 0) > start:
                    continue
                begin, end = start, start + _GRAM
                left, right = found, found + _GRAM
                while begin and left and plain[begin - 1] == word[left - 1]:
                    begin, left = begin - 1, left - 1
                while end < len(plain) and right < len(word) and plain[end] == word[right]:
                    end, right = end + 1, right + 1
                ends[start - found] = end
                if end - begin >= _COMMON:
                    yield begin, end


def _find_all(part: str, text: str) -> Iterator[int]:
    # Not by an expression: one would be compiled for each part.
    found = text.find(part)
    while found >= 0:
        yield found
        found = text.find(part, found + 1)


def _list_words(value: object) -> Iterator[str]:
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            pending += (*one, *one.values())
        elif isinstance(one, list | tuple):
            pending += one


def _decode(text: str) -> str:
    """Take encodings and blanks out of a text."""
    for _ in range(_LAYERS):
        decoded = "".join(re.sub(_ENCODED, _decode_one, text).split())
        if decoded == text:
            break
        text = decoded
    return text


def _decode_with_places(text: str) -> tuple[str, list[int], list[int]]:
    """Do as `_decode`, and tell where in the text each character begins and ends."""
    begins = list(range(len(text)))
    ends = list(range(1, len(text) + 1))
    for _ in range(_LAYERS):
        size = len(text)
        characters: list[str] = []
        first: list[int] = []
        last: list[int] = []
        position = 0
        for found in re.finditer(_ENCODED, text):
            plain = slice(position, found.start())
            decoded = _decode_one(found)
            position = found.end()
            characters += (text[plain], decoded)
            first += begins[plain] + [begins[found.start()]] * len(decoded)
            last += ends[plain] + [ends[position - 1]] * len(decoded)
        text = "".join([*characters, text[position:]])
        begins, ends = first + begins[position:], last + ends[position:]
        blanks = [character.isspace() for character in text]
        if any(blanks):
            kept = [not blank for blank in blanks]
            text = "".join(itertools.compress(text, kept))
            begins = list(itertools.compress(begins, kept))
            ends = list(itertools.compress(ends, kept))
        if len(text) == size:
            break
    return text, begins, ends


def _decode_one(found: re.Match[str]) -> str:
    encoded = found[0]
    if encoded[0] == "%":
        return chr(int(encoded[1:], 16))
    if encoded[0] == "&":
        name = encoded[1:-1].lower()
        if name[0] != "#":
            return _ENTITIES[name]
        return chr(int(name.lstrip("#x"), 16 if name[1] == "x" else 10))
    is_number = encoded[0] == "\\" and encoded[1:2] in {"u", "x"}
    return chr(int(encoded[-2:], 16)) if is_number else ""
