"""Words that somebody else has chosen, as they may stand in a text, in a log and on a terminal."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["strip_controls", "to_line"]

# Expressions are compiled when they are used first, which is not at the start of a program.

# What colours a terminal's text, moves its cursor or sets its title (ECMA-48, sections 5.4 and
# 5.6, in 7 and in 8 bits), and single control characters (Unicode's category Cc), of which a
# sequence without its end leaves one. Whatever begins one cannot be inside another: that keeps the
# search linear.
_CONTROLS: Final = (
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[PX^_\]]|[\x90\x98\x9d-\x9f])[^\x00-\x1f\x7f-\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
# What says in which direction to read (Unicode Standard Annex 9, section 2): it makes a text look
# like another one.
_DIRECTIONS: Final = "[\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f]"
# Half of a surrogate pair, which JSON may have and no encoding takes.
_SURROGATES: Final = "[\ud800-\udfff]"


def to_line(text: str) -> str:
    """Put foreign words on one line, without what controls a terminal or a direction of reading."""
    if text.isascii() and text.isprintable():
        return text
    line = strip_controls(" ".join(text.split()))
    return " ".join(re.sub(_DIRECTIONS, "", line).split())


def strip_controls(text: str) -> str:
    """Take out of a text all that controls a terminal but line feeds and tabs."""
    return re.sub(_SURROGATES, "\ufffd", re.sub(_CONTROLS, "", text))
